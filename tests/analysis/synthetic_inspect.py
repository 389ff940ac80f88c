"""What the stage `inspect` would write for a synthetic study: its looks at small untrained models and images of noise."""

import json
from pathlib import Path
from typing import Any

import torch

from lgmamba.config.files import InspectFile
from lgmamba.config.inspect import INSIDE
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params
from lgmamba.data.dataset import Dataset
from lgmamba.data.splits import CODES
from lgmamba.frames import write_columns
from lgmamba.keys import reading_key
from lgmamba.probe.context import ProbeContext
from lgmamba.probe.inspect import LOOKS
from lgmamba.tasks.draw.model import PatchMamba
from lgmamba.tasks.registry import build_task
from tests.records import record

INSPECT: dict[str, Any] = {
    "runs": ["uniform_short", "uniform"],
    "looks": [*INSIDE, "read_outs"],
    "read_out_at": ["L0 / 4", "2 L0"],
    "length_ratios": [2, 4],
    "order": "permutation",
    "images": 8,
    "fit_images": 16,
    "attention_images": 2,
    "attention_rows": 3,
    "gradient_probes": 1,
    "swaps": 2,
    "read_every": 0.5,
    "piece": 64,
}


def noise() -> Dataset:
    """16 images to train on, 8 to test and 4 to choose by."""
    g = torch.Generator().manual_seed(0)
    images = torch.randint(256, (28, 1, 8, 8), generator=g, dtype=torch.uint8)
    codes = torch.tensor([CODES["train"]] * 16 + [CODES["test"]] * 8 + [CODES["val"]] * 4, dtype=torch.uint8)
    return Dataset(images, torch.zeros(28, dtype=torch.long), codes, torch.arange(28), torch.zeros(1, 8, 8), None)


def write_inspected(path: Path, params: Params, run: RunConfig) -> None:
    """The looks at one training, next to its train/ and evaluation/."""
    torch.manual_seed(run.seed)
    model = PatchMamba(run.model, (1, 8, 8), run.task.patch_size, run.L0).eval().requires_grad_(False)
    steps = params.inspect.steps(run.L0)
    config = InspectFile(run=run, inspect=params.inspect, split=params.evaluation.split, steps=steps)
    context, out = ProbeContext(model, build_task(run, noise()), noise(), config), path / "inspect"
    for look in params.inspect.looks:
        for name, columns in LOOKS[look](context).items():
            write_columns(out / f"{name}.parquet", {"run": run.run, "seed": run.seed, "L0": run.L0} | columns)
    train = json.loads((path / "train/train.json").read_text())
    digests = {key: train[key] for key in ("data_digest", "checkpoint_digest")}
    about = {"inspect": params.inspect.model_dump(mode="json"), "split": params.evaluation.split, "wall_s": 1.0}
    (out / "inspect.json").write_text(json.dumps(digests | about))
    record(reading_key(config, digests["data_digest"], digests["checkpoint_digest"]), out)

"""What the stage `probes` would write for a synthetic study: its probes of small untrained models and images of noise."""

import json
from pathlib import Path
from typing import Any

import torch

from lgmamba.config.files import ProbesFile
from lgmamba.config.probes import INSIDE
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params
from lgmamba.data.dataset import Dataset
from lgmamba.data.splits import CODES
from lgmamba.frames import write_columns
from lgmamba.keys import reading_key
from lgmamba.probe.context import ProbeContext
from lgmamba.probe.probes import PROBES as PROBES_OF
from lgmamba.tasks.draw.model import PatchMamba
from lgmamba.tasks.registry import build_task
from tests.records import record

PROBES: dict[str, Any] = {
    "runs": ["uniform_short", "uniform"],
    "kinds": [*INSIDE, "read_outs", "told_lengths"],
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
    "chunk": 64,
}


def noise() -> Dataset:
    """16 images to train on, 8 to test and 4 to choose by."""
    g = torch.Generator().manual_seed(0)
    images = torch.randint(256, (28, 1, 8, 8), generator=g, dtype=torch.uint8)
    codes = torch.tensor([CODES["train"]] * 16 + [CODES["test"]] * 8 + [CODES["val"]] * 4, dtype=torch.uint8)
    return Dataset(images, torch.zeros(28, dtype=torch.long), codes, torch.arange(28), torch.zeros(1, 8, 8), None)


def write_probes(path: Path, params: Params, run: RunConfig) -> None:
    """The probes of one training, next to its train/ and evaluation/."""
    torch.manual_seed(run.seed)
    model = PatchMamba(run.model, (1, 8, 8), run.task.patch_size, run.L0).eval().requires_grad_(False)
    steps = params.probes.steps(run.L0)
    config = ProbesFile(run=run, probes=params.probes, split=params.evaluation.split, steps=steps)
    context, out = ProbeContext(model, build_task(run, noise()), noise(), config), path / "probes"
    for kind in params.probes.kinds:
        for name, columns in PROBES_OF[kind](context).items():
            write_columns(out / f"{name}.parquet", {"run": run.run, "seed": run.seed, "L0": run.L0} | columns)
    train = json.loads((path / "train/train.json").read_text())
    digests = {key: train[key] for key in ("data_digest", "checkpoint_digest")}
    about = {"probes": params.probes.model_dump(mode="json"), "split": params.evaluation.split, "wall_s": 1.0}
    (out / "probes.json").write_text(json.dumps(digests | about))
    record(reading_key(config, digests["data_digest"], digests["checkpoint_digest"]), out)

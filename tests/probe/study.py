"""A small real study: a few trainings of a second each, probed, in the folders of a study."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import torch
from torch import Tensor

from lgmamba.config.files import EvaluationFile, Layout, read_config, write_config_files
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params, load_params
from lgmamba.data.dataset import Dataset, load_dataset
from lgmamba.files import file_digest, to_json, write_atomic
from lgmamba.probe.reconstruct import reconstruct
from lgmamba.tasks.draw.model import PatchMamba
from lgmamba.tasks.draw.orders import orders_of_images
from lgmamba.tasks.draw.patches import patchify
from lgmamba.track import NullTracker
from lgmamba.train.checkpoint import load_model, save_model
from lgmamba.train.loop import train
from tests.model.models import as_read
from tests.records import record_again
from tests.train.tiny import ADAPTIVE, CPU, DATA, RUN, build_digits
from tests.workflow.checkouts import ROOT

STUDY = {
    "study": "tiny",
    "data": DATA,
    "task": RUN["task"],
    "model": RUN["model"],
    "train": RUN["train"],
    "runs": {
        "fixed_3": {"task": {"lengths": {"kind": "fixed", "value": 3}}},
        "fixed_6": {"task": {"lengths": {"kind": "fixed", "value": 6}}},
        "plain": {},
        "told": {"model": {"adaptive": ADAPTIVE}},
    },
    "seeds": [0, 1],
    "evaluation": {
        "split": "test",
        "images": 9,
        "repeats": 2,
        "orders": ["permutation", "replacement"],
        "max_length_ratio": 4,  # up to 24 steps: 16 cells, and half of them again
        "length_ratios": [2],
        "extra_steps": [5, 17],
        "batch_images": 4,
        "chunk": 5,
        "panel_images": 6,
    },
    "claims": {
        "comparisons": [{"generalist": "plain", "adaptive": "told"}],
        "level": 0.95,
        "far_length_ratios": [2, 4],
    },
    "remedies": [],
    "remedy_evaluation": None,
    "probes": None,
    "outputs": {"data": "data", "results": "results", "reports": "reports"},
    "tracking": {"kind": "none"},
    "device": "cpu",
}


@dataclass(frozen=True)
class Study:
    """A study's folder, configured, with images, and trained and probed run by run."""

    root: Path
    params: Params

    @property
    def layout(self) -> Layout:
        return Layout(self.root / "results")

    @property
    def data(self) -> Path:
        return self.root / "data"

    @cached_property
    def dataset(self) -> Dataset:
        return load_dataset(self.data)

    def home(self, run: str, seed: int = 0) -> Path:
        return self.layout.run_dir(run, seed)

    def evaluation_file(self, run: str, seed: int = 0, **changes: Any) -> EvaluationFile:
        file = read_config(self.layout.evaluation_json(run, seed), EvaluationFile)
        return file.model_copy(update={"evaluation": file.evaluation.model_copy(update=changes)})

    def train(self, run: str, seed: int = 0) -> None:
        home = self.home(run, seed)
        config = read_config(self.layout.run_json(run, seed), RunConfig)
        train(config, self.data, home / "train", home / "work", CPU, NullTracker())

    def awaken(self, run: str, seed: int = 0) -> None:
        """Give what is told a large effect; it begins at none, and so short a training hardly changes that."""
        path = self.home(run, seed) / "train" / "model.safetensors"
        model, config = load_model(path)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in model.conditioning.parameters():
                p.normal_(generator=generator)
        save_model(model, config, path)
        about = json.loads((path.parent / "train.json").read_text())
        write_atomic(path.parent / "train.json", to_json(about | {"checkpoint_digest": file_digest(path)}))
        record_again(path.parent)

    def reconstruct(self, run: str, seed: int = 0, out: Path | None = None, **changes: Any) -> dict[str, Any]:
        """Read a run, perhaps in another way and to another folder than the study's; errors are not rounded."""
        home, config = self.home(run, seed), self.evaluation_file(run, seed, **changes)
        with patch("lgmamba.probe.reconstruct.rounded", lambda values: values):  # so that tests may compare tightly
            return reconstruct(config, home / "train", self.data, out or home / "evaluation", CPU)

    def frame(self, run: str, name: str = "steps", folder: Path | None = None) -> pl.DataFrame:
        return pl.read_parquet((folder or self.home(run) / "evaluation") / f"{name}.parquet")

    def model(self, run: str) -> PatchMamba:
        return load_model(self.home(run) / "train" / "model.safetensors")[0]

    def rows(self, images: int = 9) -> Tensor:
        return self.dataset.split("test")[:images]

    def cells(self, order: str, images: int = 9) -> Tensor:
        """(M, 2 repeats, 24 steps)."""
        return orders_of_images(order, 4, 4, self.dataset.id_hash[self.rows(images)], 2, 24)

    @torch.no_grad()
    def drawn(self, run: str, image: int, cells: Tensor, step: int, told: int) -> tuple[Tensor, Tensor]:
        """One image read alone up to one step, by the plain forward pass: (C, H, W) reconstruction and target."""
        model = self.model(run)
        target = self.dataset.images[image].float() / 255
        sequence = as_read(patchify(target[None], 2)[:, cells[:step]], cells[None, :step])
        found = model(sequence, torch.tensor([[step]]), torch.tensor([told]))
        return found[0, 0], target


def made_study(root: Path, **overrides: Any) -> Study:
    """The one in a folder that has it already."""
    return Study(root, load_params(ROOT / "params.yaml", "digits", STUDY | overrides))


def small_study(root: Path, **overrides: Any) -> Study:
    """Configured, and its images built; nothing trained yet."""
    study = made_study(root, **overrides)
    write_config_files(study.params, root)
    build_digits(root / "data")
    return study

"""One row for each task: a tiny run of it, on which `test_contract.py` holds it to what `lgmamba.tasks.base` says."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lgmamba.config.data import DataConfig
from lgmamba.config.overlays import merge
from lgmamba.config.run import RunConfig
from lgmamba.data.build import build_dataset
from lgmamba.data.dataset import Dataset, load_dataset
from lgmamba.model.sequences import SequenceModel
from lgmamba.tasks.base import Task
from lgmamba.tasks.registry import build_model, build_task
from tests.train.tiny import DATA, RUN, tiny_run
from tests.workflow.checkouts import ROOT

NO_IMAGES = {"source": {"kind": "none", "samples": 60}, "image_size": None, "max_images": None}
TEXT = {
    "source": {"kind": "text", "path": str(ROOT / "lgmamba/tasks"), "window": 40},
    "image_size": None,
    "max_images": 60,
}
NO_ENDS = {"position": None, "decoder": None}


@dataclass(frozen=True)
class Row:
    """A task at its smallest.

    Attributes:
        task: the section `task:`; lengths up to 6 steps, where the task can do with so few.
        data: changes of the section `data:` of tests/train/tiny.py.
        model: changes of its section `model:`.
        own_loss: whether training asks for something else than what is read afterwards, so that its loss is no mean of errors.
    """

    task: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    own_loss: bool = False

    def run(self, **changes: Any) -> RunConfig:
        values = RUN | {"task": self.task, "model": RUN["model"] | self.model}
        return RunConfig.model_validate(merge(values, changes))

    def dataset(self, folder: Path) -> Dataset:
        config = DataConfig.model_validate(merge(DATA, self.data))
        build_dataset(config, self.run().task.divisors, folder, workers=1)
        return load_dataset(folder)


UP_TO_6 = {"kind": "uniform", "low": 1, "high": 6}
LAST = {"kind": "last"}
SYMBOLS = {"lengths": UP_TO_6, "supervision": LAST}
QUERIED = {
    "kind": "queried",
    "patch_size": 3,
    "order": "uniform",
    "lengths": UP_TO_6,
    "queries": 5,
    "position": {"kind": "append", "scale": 4},
}
NO_CONVOLUTION = {"mixer": RUN["model"]["mixer"] | {"conv": "none"}}
LENGTH_TOKEN = {"adaptive": {"kind": "length_token", "scale": 4}}
TASKS = {
    "draw": Row(tiny_run().task.model_dump(mode="json"), {"max_images": 60}),
    "queried": Row(QUERIED, {"max_images": 60}, NO_ENDS | NO_CONVOLUTION, own_loss=True),
    "queried-length_token": Row(QUERIED | {"per": "sample"}, {"max_images": 60}, NO_ENDS | LENGTH_TOKEN, own_loss=True),
    "regression": Row({"kind": "regression", "dim": 3, "lengths": UP_TO_6, "supervision": LAST}, NO_IMAGES, NO_ENDS),
    "regression-s6": Row(
        {"kind": "regression", "dim": 3, "body": "s6", "lengths": UP_TO_6, "supervision": LAST}, NO_IMAGES, NO_ENDS
    ),
    "mqar-gap": Row(SYMBOLS | {"kind": "mqar", "keys": 9, "pairs": 2, "noise": 3}, NO_IMAGES, NO_ENDS),
    "mqar-load": Row(SYMBOLS | {"kind": "mqar", "keys": 9, "pairs": 2, "order": "load"}, NO_IMAGES, NO_ENDS),
    "copying": Row(SYMBOLS | {"kind": "copying", "symbols": 4, "items": 2, "spread": 4}, NO_IMAGES, NO_ENDS),
    "automaton": Row(SYMBOLS | {"kind": "automaton", "automaton": "arithmetic"}, NO_IMAGES, NO_ENDS),
    "composite": Row(SYMBOLS | {"kind": "composite", "numbers": 16, "spread": 5}, NO_IMAGES, NO_ENDS),
    "inverse": Row(
        {
            "kind": "inverse",
            "numbers": 9,
            "unseen": 9,
            "noise": 2,
            "lengths": {"kind": "uniform", "low": 18, "high": 20},
        }
        | {"supervision": LAST},
        NO_IMAGES,
        NO_ENDS,
    ),
    "bytes": Row(SYMBOLS | {"kind": "bytes", "starts": 20}, TEXT, NO_ENDS),
    "forecast": Row(SYMBOLS | {"kind": "forecast", "season": 6, "patch": 2, "waves": 2}, NO_IMAGES, NO_ENDS),
    "next_item": Row(SYMBOLS | {"kind": "next_item", "genres": 3, "items": 10}, NO_IMAGES, NO_ENDS),
    "passkey": Row(
        {"kind": "passkey", "starts": 9, "lengths": {"kind": "uniform", "low": 16, "high": 18}, "supervision": LAST},
        TEXT,
        NO_ENDS,
        own_loss=True,
    ),
}


@dataclass(frozen=True)
class Case:
    """A row with its data, its task, and a model off its initialisation."""

    row: Row
    dataset: Dataset
    task: Task
    model: SequenceModel

    @classmethod
    def of(cls, row: Row, folder: Path) -> "Case":
        dataset, run = row.dataset(folder), row.run()
        return cls(row, dataset, build_task(run, dataset), moved(build_model(run, dataset.image_shape)))


def moved(model: SequenceModel, seed: int = 1) -> SequenceModel:
    """With every weight moved, so that no zero-initialised layer hides an error."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)
    return model.eval()

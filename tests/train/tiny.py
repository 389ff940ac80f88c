"""A training of a second or less on a few digits, and what looks at it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lgmamba.config.data import DataConfig
from lgmamba.config.overlays import merge
from lgmamba.config.run import RunConfig
from lgmamba.data.build import build_dataset
from lgmamba.track import NullTracker, Tracker
from lgmamba.train.loop import train
from tests.sharing import made_once

if TYPE_CHECKING:
    import polars as pl
    import pytest

CPU = torch.device("cpu")
FILES = ("run.json", "history.parquet", "model.safetensors", "train.json", "record.json")
ADAPTIVE = {"kind": "both", "features": "T_and_t", "hidden": 8, "beyond": "extrapolate"}

MIXER = {"kind": "mamba", "d_state": 4, "d_conv": 4, "expand": 2, "dt_rank": "auto", "dt_min": 0.001, "dt_max": 0.1}
RUN = {
    "study": "tests",
    "run": "tiny",
    "seed": 0,
    "task": {
        "patch_size": 2,
        "order": "permutation",
        "lengths": {"kind": "uniform", "low": 1, "high": 6},
        "supervision": {"kind": "last"},
    },
    "model": {
        "d_model": 8,
        "n_layer": 2,
        "mixer": MIXER,
        "position": "absolute",
        "decoder": {"kind": "mlp", "hidden": 16},
        "adaptive": None,
        "scan_backend": "auto",
    },
    "train": {
        "steps": 20,
        "batch_size": 4,
        "lr": 0.003,
        "warmup_steps": 5,
        "final_lr": 0.01,
        "weight_decay": 0.01,
        "betas": [0.9, 0.99],
        "grad_clip": 1.0,
        "precision": "auto",
        "log_every": 4,
        "validate_every": 8,
        "validate_images": 16,
        "checkpoint_every_s": 0,
        "cpu_threads": 1,
    },
}
DATA = {
    "source": {"kind": "digits"},
    "image_size": 8,
    "fit": "exact",
    "channels": "grey",
    "splits": {"calib": 0.05, "val": 0.1, "test": 0.2},
    "max_images": 300,
    "on_bad_image": "error",
    "max_pixels": 1000,
}


def tiny_run(**changes: Any) -> RunConfig:
    """The run above, with changes nested as in params.yaml."""
    return RunConfig.model_validate(merge(RUN, changes))


def build_digits(out: Path, **changes: Any) -> Path:
    build_dataset(DataConfig.model_validate(merge(DATA, changes)), 2, out, workers=1)
    return out


def shared_digits(tmp_path_factory: "pytest.TempPathFactory") -> Path:
    """The 300 digits of these trainings as a data artefact, made once for all tests, none of which may change it."""
    return made_once(tmp_path_factory, "tiny_digits", build_digits)


def train_at(home: Path, run: RunConfig, data: Path, tracker: Tracker | None = None) -> dict[str, Any]:
    """Train with the folders of a study: home/train and home/work."""
    return train(run, data, home / "train", home / "work", CPU, tracker or NullTracker())


def weights(home: Path) -> bytes:
    return (home / "train" / "model.safetensors").read_bytes()


def history(home: Path) -> "pl.DataFrame":
    import polars as pl  # here, since a machine that only trains has none

    return pl.read_parquet(home / "train" / "history.parquet")


def reproducible_rows(home: Path) -> list[tuple]:
    """Rows of the history that depend on configuration and seed alone, not on the machine's speed and memory."""
    import polars as pl

    return history(home).filter(pl.col("metric").is_in(["loss", "val_psnr", "lr", "grad_norm"])).rows()


class Stopped(BaseException):
    """As little an Exception as Ctrl-C."""


class FakeTracker:
    """Keeps what it is told; may stop the training as a kill would, at the first values from step `stop_at` on."""

    def __init__(self, stop_at: int | None = None):
        self.stop_at = stop_at
        self.values: list[tuple[int, str, float]] = []
        self.finished: list[tuple[Path, set[str]]] = []

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.values += [(step, key, value) for key, value in metrics.items()]
        if self.stop_at is not None and step >= self.stop_at:
            raise Stopped

    def finish(self, train_dir: Path) -> None:
        self.finished.append((train_dir, {path.name for path in train_dir.iterdir()}))

    def fail(self, reason: str) -> None:
        raise AssertionError("the command line tells of failures, the training does not")

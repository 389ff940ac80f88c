"""What one call does for one training besides its steps: resume, rows of the history, checkpoints, files at the end.

Glossary: `lgmamba.train`.
"""

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lgmamba.config.run import RunConfig
from lgmamba.config.training import TrainConfig
from lgmamba.data.dataset import Dataset
from lgmamba.files import file_digest, remove_parts, to_json, write_atomic
from lgmamba.keys import train_key
from lgmamba.mixers.contract import Mixer
from lgmamba.mixers.kernels import resolved
from lgmamba.mixers.memory import memory_of
from lgmamba.model.sequences import SequenceModel
from lgmamba.provenance import describe
from lgmamba.records import begin, finish
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.track import Tracker
from lgmamba.train.checkpoint import (
    Progress,
    initial_weights,
    load_progress,
    remove_progress,
    save_model,
    save_progress,
    start_from,
)
from lgmamba.train.history import History
from lgmamba.train.optimizer import Moments
from lgmamba.train.processes import ALONE, Processes
from lgmamba.train.progress import Show
from lgmamba.train.validation import Validation


class TrainingError(RuntimeError):
    """A training that cannot go on; the message names run, seed and step."""


@dataclass(frozen=True)
class Training:
    """What is trained, and where what it leaves goes.

    Attributes:
        run: the run and seed.
        out: folder of the results.
        work: folder of the resume checkpoint; emptied of it at the end.
        tracker: told about every logged step.
    """

    run: RunConfig
    out: Path
    work: Path
    tracker: Tracker


class Attempt:
    """One training from where an earlier attempt left it.

    Args:
        training: what is trained.
        dataset: images on the device.
        device: where.
        runs: trainings side by side, this one included.
        processes: that train it together; the first alone validates and writes.
    Attributes:
        model: with the weights of `step`.
        step: optimiser steps done.
        moments: what the optimiser keeps at `step`; None at the beginning.
        runs: most trainings that it was ever trained beside, itself included.
    """

    def __init__(
        self, training: Training, dataset: Dataset, device: torch.device, runs: int, processes: Processes = ALONE
    ):
        self.processes = processes
        run, config = training.run, training.run.train
        self.training, self.run, self.dataset, self.device = training, run, dataset, device
        self.task = build_task(run, dataset)
        self.model = build_model(run, dataset.image_shape).to(device)
        self.tau_at_start = self._tau()
        self.bf16 = computes_in_bf16(config, device)
        full_length = device.type == "cuda" or runs > 1  # a recorded graph, and runs in one batch, need equal shapes
        self.sampler = self.task.sampler(dataset.split("train"), config, run.seed, full_length)
        self.validation = Validation(self.task, dataset, config.validate_images)
        weights = initial_weights(run, training.out)
        self.made_from = train_key(run, dataset.digest, weights)
        self.resume_key = {"made from": self.made_from.digest, "device": device.type}
        found = load_progress(training.work, self.resume_key)
        self.moments: Moments | None = None
        progress = Progress()
        if found is not None:
            progress, own, self.moments = found
            self.model.load_state_dict(own)
        else:
            if weights is not None:
                start_from(self.model, weights, run)
            self.task.before_training(self.model, self.sampler)
        self.step, self.elapsed_s, self.runs = progress.step, progress.elapsed_s, max(progress.runs, runs)
        self.history = History(run, training.tracker, list(progress.history))
        self.begun = time.monotonic()

    @property
    def label(self) -> str:
        """Run and seed, for people."""
        return f"{self.run.run} seed {self.run.seed}"

    def begin(self) -> None:
        """Take away the record of an earlier training: its files are in the making again."""
        if self.processes.first:
            begin(self.training.out)

    def add_row(self, done: int, recent: Tensor, lr: float, images_per_s: float, show: Show) -> None:
        """One row of the history, with a validation where one is due.

        Args:
            done: steps done.
            recent: (n, 2) loss and gradient norm of the n steps since the row before.
            lr: of the last of them.
            images_per_s: read by this training since the row before.
            show: tells people.
        Raises:
            TrainingError: a loss or a gradient norm is NaN or infinite.
        """
        config = self.run.train
        check_finite(recent, done, self.run)
        if not self.processes.first:
            self.step = done
            return
        values = {"loss": recent[:, 0].mean().item(), "lr": lr, "grad_norm": recent[-1, 1].item()}
        self.history.add(done, values | {"images_per_s": images_per_s} | memory(self.device))
        levels: dict[str, dict[int, float]] = {}
        if done // config.validate_every > (done - len(recent)) // config.validate_every or done == config.steps:
            levels = self.validation.by_metric(self.model)
            for name, by_length in levels.items():
                self.history.add_by_length(done, name, by_length)
        show(self.label, done, values["loss"], images_per_s, levels.get(self.validation.name, {}))
        self.step = done

    def save(self, moments: Moments) -> None:
        """A checkpoint from which another call goes on."""
        if not self.processes.first:
            return
        progress = Progress(self.step, self._trained_s(), tuple(self.history.rows), self.runs)
        save_progress(self.training.work, progress, self.resume_key, self.model.state_dict(), moments)

    def finish(self, keep: bool) -> dict[str, Any]:
        """Write run.json, history.parquet, model.safetensors, train.json, and last their record; returns what train.json holds.

        Args:
            keep: whether the work folder keeps a checkpoint, from which a later call writes all this again without a step.
        Returns:
            what train.json holds; empty in a process that writes nothing.
        """
        if not self.processes.first:
            return {}
        out, run = self.training.out, self.run
        if keep:
            assert self.moments is not None  # of a training that made a step
            self.save(self.moments)
        write_atomic(out / "run.json", to_json(run.model_dump(mode="json")))
        self.history.write(out / "history.parquet")
        save_model(self.model, run, out / "model.safetensors")
        about = {
            **origin(run, self.model, self.device),
            **({"side_by_side": self.runs} if self.runs > 1 else {}),
            **({"processes": self.processes.count} if self.processes.count > 1 else {}),
            **{name: digest for name, digest in self.made_from.inputs.items() if name == "init_from"},
            "wall_s": self._trained_s(),
            "images_per_s": self.history.median("images_per_s"),
            "precision": "bf16" if self.bf16 else "fp32",
            **{name: self.history.last(name) for name in memory(self.device)},
            "data_digest": self.made_from.inputs["images"],
            "code_digest": self.made_from.code,
            "checkpoint_digest": file_digest(out / "model.safetensors"),
            **({"tau": {"start": self.tau_at_start, "end": self._tau()}} if self.tau_at_start else {}),
            "final": {
                "loss": self.history.last("loss"),
                **{name: self.history.last_by_length(name) for name in self.history.by_length()},
            },
        }
        write_atomic(out / "train.json", to_json(about))
        finish(self.made_from, out, ["run.json", "history.parquet", "model.safetensors", "train.json"])
        self.training.tracker.finish(out)
        if not keep:
            remove_progress(self.training.work)
        for folder in (out, self.training.work):
            remove_parts(folder)
        return about

    def _tau(self) -> list[float] | None:
        """Low, median and high of what the mixers remember, steps; None without any that retain."""
        found = memory_of([*_outermost_mixers(self.model)], self.run.model.d_model)
        return None if found is None else found.listed()

    def _trained_s(self) -> float:
        """Seconds trained, over all attempts."""
        return self.elapsed_s + time.monotonic() - self.begun


def computes_in_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether a training on this device computes in bfloat16 autocast."""
    return config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")


def check_finite(seen: Tensor, done: int, run: RunConfig) -> None:
    """Stop at the first step whose loss or gradient is NaN or infinite.

    Args:
        seen: (n, 2) loss and gradient norm of the steps done - n + 1 .. done.
    """
    bad = (~seen.isfinite()).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise TrainingError(
            f"run {run.run!r}, seed {run.seed}: the {('loss', 'gradient norm')[column]} at step {done - len(seen) + row + 1} is "
            f"{seen[row, column].item()}; a lower train.lr or train.grad_clip, or longer train.warmup_steps may help"
        )


def memory(device: torch.device) -> dict[str, float]:
    """Peak memory of this process so far, MB (2^20 bytes)."""
    values = {"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if device.type == "cuda":
        values["peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return values


def origin(run: RunConfig, model: SequenceModel, device: torch.device) -> dict[str, Any]:
    """What was trained, where, by which versions."""
    here = describe()
    return {
        "run": run.run,
        "seed": run.seed,
        "study": run.study,
        "L0": run.L0,
        "steps": run.train.steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": device.type,
        "device_name": here["gpu"] if device.type == "cuda" else here["cpu"],
        "backend": resolved(run.model.scan_backend, device.type),
        "git": here["git"],
        "versions": here["packages"],
    }


def _outermost_mixers(module: nn.Module) -> Iterator[Mixer]:
    """Those of the layers: a mixer may have another as a part."""
    for child in module.children():
        if isinstance(child, Mixer):
            yield child
        else:
            yield from _outermost_mixers(child)

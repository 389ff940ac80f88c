"""Per-step reconstructions of held-out images by one trained run, far beyond its training length.

    evaluation.json             what was probed, with which checkpoint and images
    steps.parquet          run, seed, mode, order, method, repeat, image, step -> mse, psnr; with a class head also error_rate: 1 where
                           another class is named, else 0, null for what names none
    retention.parquet      run, seed, mode, order, method, step, age -> mse, count; where steps show parts of the target
    <details>.parquet      run, seed, ... : what else the task looks at, see `lgmamba.tasks.base.Details`
    panel.safetensors      the reconstructions of a few images at more steps, their mse, and what was read; where there are images

Glossary: `lgmamba.probe`. mode: stream or prefix, see `lgmamba.model.runner`; method: model, paste or mean_image.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.config.files import EvaluationFile, evaluation_files
from lgmamba.config.run import RunConfig
from lgmamba.data.dataset import Dataset, load_dataset
from lgmamba.devices import matrix_products
from lgmamba.files import atomic_path, remove_parts, to_json, write_atomic
from lgmamba.frames import write_columns
from lgmamba.keys import reading_key
from lgmamba.metrics import ACCURACY
from lgmamba.model import SequenceModel, Sequences
from lgmamba.model.runner import MODES, run_sequence
from lgmamba.probe.retention import RetentionMap
from lgmamba.records import begin, finish
from lgmamba.tasks.base import Scores, Task
from lgmamba.tasks.registry import build_task
from lgmamba.train.checkpoint import check_trained_on, load_model_of

log = logging.getLogger(__name__)

KEYS = ("mode", "order", "method", "repeat")
DETAILED = 128
"""Samples that a task's details are about, at most."""
MANTISSA = 12
"""Binary digits kept of each image's error: a step of 0.001 dB, in half the space."""


def reconstruct(config: EvaluationFile, train: Path, data: Path, out: Path, device: torch.device) -> dict[str, Any]:
    """Read held-out samples with one trained run and write the files above.

    Args:
        config: the run, how it is read, and the steps.
        train: folder written by `lgmamba train`.
        data: folder of the image artefact.
        out: folder of the results.
    Returns:
        what evaluation.json holds.
    Raises:
        ArtefactError: the checkpoint is missing, damaged, or trained on other images.
        ConfigError: the checkpoint is another run's, or the split that is asked for holds no image.
        DataError: the images cannot be used.
    """
    begun = time.monotonic()
    torch.set_num_threads(config.run.train.cpu_threads)
    dataset = load_dataset(data, device, config.run.images)
    model = load_model_of(config.run, train, device)
    weights = check_trained_on(train, dataset)
    made_from = reading_key(config, dataset.digest, weights)
    begin(out)
    evaluation = Evaluation(model, build_task(config.run, dataset), config, dataset)
    with matrix_products(config.evaluation.precision):
        evaluation.run()
    evaluation.write(out)
    about = {
        "run": config.run.run,
        "seed": config.run.seed,
        "L0": config.run.L0,
        "steps": config.steps,
        "images": len(evaluation.rows),
        "repeats": config.evaluation.repeats,
        "wall_s": time.monotonic() - begun,
        "data_digest": dataset.digest,
        "checkpoint_digest": weights,
        "code_digest": made_from.code,
        "evaluation": config.evaluation.model_dump(mode="json"),
    }
    write_atomic(out / "evaluation.json", to_json(about))
    finish(made_from, out, list(evaluation_files(config.run.task)))
    remove_parts(out)
    return about


class Evaluation:
    """Reads every image in every order, batch by batch, and collects the frames."""

    def __init__(self, model: SequenceModel, task: Task, config: EvaluationFile, dataset: Dataset):
        self.model, self.task, self.config, self.dataset = model, task, config, dataset
        self.steps, self.device = config.steps, dataset.images.device
        self.rows = dataset.split(config.evaluation.split)[: config.evaluation.images]
        if not len(self.rows):
            raise ConfigError(
                f"evaluation.split: found {config.evaluation.split!r}, which holds no image; expected a split with images "
                f"(data.splits.{config.evaluation.split} > 0)"
            )
        self.blocks: list[dict[str, Any]] = []
        self.maps: dict[tuple[str, str, str], RetentionMap] = {}
        self.panel: dict[str, list[Tensor]] = {}
        self.details = task.details()

    def run(self) -> None:
        """Fill the frames."""
        evaluation = self.config.evaluation
        for order in evaluation.orders:
            for start in range(0, len(self.rows), evaluation.batch_images):
                rows = self.rows[start : start + evaluation.batch_images]
                for repeat in range(evaluation.repeats):
                    seq = self.task.held_out(rows, order, repeat, self.steps[-1])
                    self._read(order, repeat, start, rows, seq)
            log.info("%s seed %d: order %s done", self.config.run.run, self.config.run.seed, order)

    def _read(self, order: str, repeat: int, start: int, rows: Tensor, seq: Sequences) -> None:
        steps = torch.tensor(self.steps, device=self.device)
        ages = self.task.ages(seq, steps)
        known = self.task.baselines(seq, steps, ages)
        prediction = None
        for mode in MODES:
            if prediction is None or self.model.uses_target_length:
                prediction = run_sequence(self.model, seq, self.steps, mode, self.config.evaluation.chunk)
                found = self.task.scores(prediction, seq, steps)
            if ages is not None and found.parts is not None:
                self._map(mode, order, "model").add(found.parts, ages)
            for method, scores in {"model": found, **known}.items():
                self._add({"mode": mode, "order": order, "method": method, "repeat": repeat, "image": rows}, scores)
        if order == self.config.evaluation.orders[0] and repeat == 0:
            few = max(0, min(DETAILED - start, len(rows)))
            if self.details is not None and few:
                hashes = self.dataset.id_hash[rows[:few]]
                self.details.add(self.model, hashes, seq[:few], self.steps, self.config.evaluation.chunk)
            self._keep_pictures(start, rows, seq)

    def _add(self, block: dict[str, Any], scores: Scores) -> None:
        errors = {
            "mse": scores.values[self.task.metrics[0].name].cpu(),
            "error_rate": class_errors(scores, self.config.run),
        }
        self.blocks.append(block | errors)

    def _map(self, mode: str, order: str, method: str) -> RetentionMap:
        return self.maps.setdefault((mode, order, method), RetentionMap(self.steps))

    def _keep_pictures(self, start: int, rows: Tensor, seq: Sequences) -> None:
        keep, steps = max(0, min(self.config.evaluation.panel_images - start, len(rows))), self.config.panel_steps
        parts = self.task.pictures(rows[:keep], seq[:keep]) if keep else None
        if parts is None:
            return
        mode = "prefix" if self.model.uses_target_length else "stream"  # the same prediction, in one pass
        prediction = run_sequence(self.model, seq[:keep], steps, mode, self.config.evaluation.chunk)
        scores = self.task.scores(prediction, seq[:keep], torch.tensor(steps, device=self.device))
        parts["mse"] = scores.values[self.task.metrics[0].name].float()
        parts["reconstructions"] = (self.task.picture(prediction).float().clamp(0, 1) * 255).round().byte()
        for name, part in parts.items():
            self.panel.setdefault(name, []).append(part.cpu())

    def write(self, out: Path) -> None:
        """The frames, and the panel where there are pictures."""
        name = {"run": self.config.run.run, "seed": self.config.run.seed}
        write_columns(out / "steps.parquet", name | self._step_columns())
        if self.maps:
            write_columns(out / "retention.parquet", name | self._retention_columns())
        if self.details is not None:
            write_columns(out / f"{self.details.name}.parquet", name | self.details.columns())
        if not self.panel:
            return
        panel = {key: torch.cat(parts) for key, parts in self.panel.items()}
        for key in ("mse", "reconstructions"):
            panel[key] = panel[key].transpose(0, 1)  # steps first
        panel["steps"] = torch.tensor(self.config.panel_steps)
        with atomic_path(out / "panel.safetensors") as part:
            save_file({key: v.contiguous() for key, v in panel.items()}, part)

    def _step_columns(self) -> dict[str, Any]:
        steps = np.array(self.steps)
        sizes = [block["mse"].numel() for block in self.blocks]
        columns: dict[str, Any] = {key: np.repeat([block[key] for block in self.blocks], sizes) for key in KEYS}
        columns["image"] = np.concatenate(
            [np.repeat(block["image"].cpu().numpy(), len(steps)) for block in self.blocks]
        )
        columns["step"] = np.concatenate([np.tile(steps, len(block["image"])) for block in self.blocks])
        mse = rounded(np.concatenate([block["mse"].float().numpy().ravel() for block in self.blocks]))
        return columns | {"mse": mse, "psnr": self.task.metrics[0].of_mean(mse)} | class_column(self.blocks)

    def _retention_columns(self) -> dict[str, list]:
        columns: dict[str, list] = {}
        for (mode, order, method), retention in self.maps.items():
            here = retention.columns()
            n = len(here["step"])
            for key, values in ({"mode": [mode] * n, "order": [order] * n, "method": [method] * n} | here).items():
                columns.setdefault(key, []).extend(values)
        return columns


def class_errors(scores: Scores, run: RunConfig) -> Tensor | None:
    """1 where another class is named, else 0, (B, S) on the CPU; None of a run without a class head, and of what names none."""
    found = scores.values.get(ACCURACY.name)
    return None if found is None or run.model.class_head is None else found.cpu()


def class_column(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The column `error_rate` of blocks of errors (mse, and `class_errors`): null where no class is named; none where none ever is."""
    if all(block["error_rate"] is None for block in blocks):
        return {}
    import pyarrow as pa

    values = [
        np.full(b["mse"].numel(), np.nan, np.float32)
        if b["error_rate"] is None
        else b["error_rate"].float().numpy().ravel()
        for b in blocks
    ]
    joined = np.concatenate(values)
    return {"error_rate": pa.array(joined, mask=np.isnan(joined))}


def rounded(values: np.ndarray) -> np.ndarray:
    """float32 values >= 0, to the nearest with MANTISSA binary digits behind the leading one; 0 and infinity stay."""
    drop = 23 - MANTISSA
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    nearest = (bits + (1 << (drop - 1))) >> drop << drop
    return np.where(np.isfinite(values), nearest, bits).astype(np.uint32).view(np.float32)

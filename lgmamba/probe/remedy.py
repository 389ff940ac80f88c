"""Remedies tried on one trained run: calibrated, and read beside the controls on the same images, orders and steps.

    remedies.json          what was tried, with which checkpoint and images, what calibration found and what it cost
    steps.parquet          run, seed, remedy, mode, order, repeat, image, step -> mse; with a class head also error_rate
    retention.parquet      run, seed, remedy, mode, order, step, age -> mse, count; where steps show parts of the target
    artefacts/<name>.json  calibrated values

Glossary: `lgmamba.probe`. mode: prefix or stream, see `lgmamba.config.remedies`. Rows that are always there: `vanilla`, the
model as it is, in prefix mode; for a length-adaptive model also `vanilla_stream`, told L0 all the way; and the controls.
"""

import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.config.files import RemedyFile, remedy_files
from lgmamba.data.dataset import Dataset, load_dataset
from lgmamba.devices import matrix_products
from lgmamba.files import remove_parts, to_json, write_atomic
from lgmamba.frames import write_columns
from lgmamba.keys import reading_key
from lgmamba.model import SequenceModel, Sequences
from lgmamba.probe.reconstruct import class_column, class_errors, rounded
from lgmamba.probe.retention import RetentionMap
from lgmamba.provenance import code_digest
from lgmamba.records import begin, finish
from lgmamba.remedies.artefacts import Artefact, read_artefact
from lgmamba.remedies.calibration import CalibrationSet
from lgmamba.remedies.read import read_with, record_vanilla, still_written
from lgmamba.remedies.registry import build, calibrate, control_remedies, remarks
from lgmamba.remedies.remedy import Remedy
from lgmamba.tasks.base import Scores, Task
from lgmamba.tasks.registry import build_task
from lgmamba.tasks.seeds import of_each, seed_of_repeat
from lgmamba.train.checkpoint import check_trained_on, load_model_of

log = logging.getLogger(__name__)

WATCHED = 16
"""Images on which is counted what is still written beyond L0."""


def try_remedies(
    config: RemedyFile, train: Path, data: Path, out: Path, work: Path | None, given: Path | None, device: torch.device
) -> dict[str, Any]:
    """Calibrate and read every remedy on one trained run, and write the files above.

    Args:
        config: the run, the remedies, how they are tried, and the steps.
        train: folder written by `lgmamba train`.
        data: folder of the image artefact.
        out: folder of the results.
        work: folder that survives a kill: values calibrated there are not calibrated again; or None.
        given: folder of calibrated values to use instead of calibrating, or None.
    Returns:
        what remedies.json holds.
    Raises:
        ArtefactError: the checkpoint is missing, damaged, or trained on other images.
        ConfigError: the checkpoint is another run's, a split holds too few images, or given values are another checkpoint's.
        DataError: the images cannot be used.
    """
    begun = time.monotonic()
    torch.set_num_threads(config.run.train.cpu_threads)
    dataset = load_dataset(data, device, config.run.images)
    model = load_model_of(config.run, train, device)
    model.requires_grad_(False)
    weights = check_trained_on(train, dataset)
    made_from = reading_key(config, dataset.digest, weights)
    begin(out)
    trial = Trial(model, build_task(config.run, dataset), config, dataset, weights)
    with matrix_products("fp32"):  # values that were calibrated once serve readings of either precision
        trial.calibrate(out / "artefacts", work / "artefacts" if work else None, given)
    with matrix_products(config.evaluation.precision):
        trial.run()
    trial.write(out)
    about = {
        "run": config.run.run,
        "seed": config.run.seed,
        "L0": config.run.L0,
        "steps": config.steps,
        "images": len(trial.rows),
        "repeats": config.remedy_evaluation.repeats,
        "wall_s": time.monotonic() - begun,
        "data_digest": dataset.digest,
        "checkpoint_digest": trial.checkpoint,
        "code_digest": made_from.code,
        "remedy_evaluation": config.remedy_evaluation.model_dump(mode="json"),
        "remedies": trial.about(),
    }
    write_atomic(out / "remedies.json", to_json(about))
    artefacts = [f"artefacts/{name}.json" for name in trial.artefacts]
    finish(made_from, out, [*remedy_files(config.run.task), *artefacts])
    remove_parts(out)
    return about


class Trial:
    """Everything that is tried on one trained model."""

    def __init__(self, model: SequenceModel, task: Task, config: RemedyFile, dataset: Dataset, checkpoint: str):
        self.model, self.task, self.config, self.dataset, self.checkpoint = model, task, config, dataset, checkpoint
        self.steps, self.device = config.steps, dataset.images.device
        split = config.evaluation.split
        self.rows = dataset.split(split)[: config.remedy_evaluation.images]
        if not len(self.rows):
            raise ConfigError(
                f"evaluation.split: found {split!r}, which holds no image; expected a split with images (data.splits.{split} > 0)"
            )
        self.artefacts: dict[str, Artefact] = {}
        self.remarks: dict[str, list[str]] = {}
        self.remedies: list[Remedy] = []
        self.blocks: list[dict[str, Any]] = []
        self.maps: dict[tuple[str, str, str], RetentionMap] = {}
        self.read_s: dict[str, float] = {}
        self.identity: dict[str, float] = {}
        self.written: dict[str, dict[int, dict[str, float]]] = {}

    def calibrate(self, out: Path, work: Path | None, given: Path | None) -> None:
        """Find the values of every remedy, or take those that were found before, and build the remedies."""
        images = self._calibration_set()
        for entry in self.config.remedies:
            if entry.calibrated:
                self.artefacts[entry.name] = self._artefact(entry, images, work, given)
                self.artefacts[entry.name].write(out)
                self.remarks[entry.name] = remarks(entry, self.artefacts[entry.name].values)
                for remark in self.remarks[entry.name]:
                    log.warning("%s seed %d: %s: %s", self.config.run.run, self.config.run.seed, entry.name, remark)
        for path in out.glob("*.json"):  # of entries of an earlier call
            if path.stem not in self.artefacts:
                path.unlink()
        values = {name: artefact.values for name, artefact in self.artefacts.items()}
        vanilla = [Remedy("vanilla", "vanilla", "prefix", "the model as it is")]
        if self.model.uses_target_length:
            vanilla.append(Remedy("vanilla_stream", "vanilla", "stream", "the model as it is, told L0 all the way"))
        last = images.lengths[-1]
        entries = self.config.remedies
        tried = [build(entry, entries, values, self.model, last) for entry in entries]
        self.remedies = [*vanilla, *control_remedies(self.model, self.task.config), *tried]

    def _calibration_set(self) -> CalibrationSet:
        calibration = self.config.remedy_evaluation.calibration
        rows = self.dataset.split("calib")
        if len(rows) < calibration.images and any(entry.calibrated for entry in self.config.remedies):
            raise ConfigError(
                f"remedy_evaluation.calibration.images: found {calibration.images}, but the split calib holds {len(rows)} images; expected "
                f"at most {len(rows)}, or a larger data.splits.calib"
            )
        rows = rows[: calibration.images]
        last = max(self.steps[-1], round(calibration.lengths[-1] * self.model.L0))
        seq = self.task.held_out(rows, calibration.order, 0, last)
        chunk, seed = calibration.chunk or self.config.evaluation.chunk, self.config.run.seed
        judge = self.task.judge(self.model, self.config.run.train)
        return CalibrationSet(self.model, judge, seq, calibration, self.steps, chunk, seed)

    def _artefact(self, entry, images: CalibrationSet, work: Path | None, given: Path | None) -> Artefact:
        key = self._key(entry, images)
        if given is not None:
            return read_artefact(given / f"{entry.name}.json", key)
        if work is not None:
            try:
                return read_artefact(work / f"{entry.name}.json", key)
            except ConfigError as e:
                log.debug("%s", e)
        begun = time.monotonic()
        found = calibrate(entry, images)
        self._finish()
        seconds = time.monotonic() - begun
        log.info("%s seed %d: %s calibrated in %.1f s", self.config.run.run, self.config.run.seed, entry.name, seconds)
        artefact = Artefact(entry.name, key, found.values, len(images.sequences), found.n_forward, seconds)
        if work is not None:
            artefact.write(work)
        return artefact

    def _key(self, entry, images: CalibrationSet) -> dict[str, Any]:
        hashes = self.dataset.id_hash[self.dataset.split("calib")[: len(images.sequences)]].cpu().numpy()
        return {
            "checkpoint": self.checkpoint,
            "data": self.dataset.digest,
            "L0": self.model.L0,
            "seed": images.seed,
            "entry": entry.model_dump(mode="json"),
            "calibration": images.config.model_dump(mode="json"),
            "steps": self.steps,
            "chunk": images.chunk,
            "images": hashlib.sha256(hashes.tobytes()).hexdigest(),
            "code": code_digest("lgmamba.remedies.registry"),
        }

    def run(self) -> None:
        """Read every image in every order with every remedy."""
        remedy_evaluation, batch = self.config.remedy_evaluation, self.config.evaluation.batch_images
        for order in remedy_evaluation.orders:
            for start in range(0, len(self.rows), batch):
                rows = self.rows[start : start + batch]
                for repeat in range(remedy_evaluation.repeats):
                    seq = self.task.held_out(rows, order, repeat, self.steps[-1])
                    random_scores = _random_scores(self.dataset.id_hash[rows], repeat, self.steps[-1]).to(self.device)
                    if not self.written:
                        self._watch(seq, random_scores)
                    self._read(order, repeat, rows, seq, random_scores)
            log.info("%s seed %d: order %s done", self.config.run.run, self.config.run.seed, order)

    def _watch(self, seq: Sequences, random_scores: Tensor) -> None:
        seq, random_scores, chunk = seq[:WATCHED], random_scores[:WATCHED], self.config.evaluation.chunk
        vanilla = record_vanilla(self.model, seq, self.steps[-1], chunk)
        for remedy in self.remedies:
            self.written[remedy.name] = still_written(
                self.model, remedy, vanilla, seq, random_scores, self.steps, chunk
            )

    def _read(self, order: str, repeat: int, rows: Tensor, seq: Sequences, random_scores: Tensor) -> None:
        steps = torch.tensor(self.steps, device=self.device)
        ages = self.task.ages(seq, steps)
        block = {"order": order, "repeat": repeat, "image": rows}
        vanilla: dict[str, Tensor] = {}
        for remedy in self.remedies:
            begun = time.monotonic()
            prediction = read_with(self.model, remedy, seq, random_scores, self.steps, self.config.evaluation.chunk)
            self._finish()
            self.read_s[remedy.name] = self.read_s.get(remedy.name, 0.0) + time.monotonic() - begun
            if remedy.kind == "vanilla":
                vanilla[remedy.mode] = prediction
            self._compare(remedy, prediction, vanilla.get(remedy.mode, vanilla["prefix"]))
            self._add(remedy.name, remedy.mode, block, self.task.scores(prediction, seq, steps), ages)
        oracle = self.task.config.ORACLE
        if oracle is not None:
            self._add(oracle, "prefix", block, self.task.baselines(seq, steps, ages)[oracle], ages)

    def _compare(self, remedy: Remedy, prediction: Tensor, vanilla: Tensor) -> None:
        """How far a remedy is from changing nothing up to L0: the largest difference of a number predicted."""
        short = sum(T <= self.model.L0 for T in self.steps)
        difference = float((self.task.picture(prediction) - self.task.picture(vanilla))[:, :short].abs().max())
        self.identity[remedy.name] = max(self.identity.get(remedy.name, 0.0), difference)

    def _add(self, name: str, mode: str, block: dict[str, Any], scores: Scores, ages: Tensor | None) -> None:
        if ages is not None:
            self.maps.setdefault((name, mode, block["order"]), RetentionMap(self.steps)).add(scores.parts, ages)
        errors = scores.values[self.task.metrics[0].name].cpu()
        found = {"mse": errors, "error_rate": class_errors(scores, self.config.run)}
        self.blocks.append(block | {"remedy": name, "mode": mode} | found)

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def write(self, out: Path) -> None:
        """The frames."""
        name = {"run": self.config.run.run, "seed": self.config.run.seed}
        sizes = [b["mse"].numel() for b in self.blocks]
        columns: dict[str, Any] = {
            key: np.repeat([b[key] for b in self.blocks], sizes) for key in ("remedy", "mode", "order", "repeat")
        }
        steps = np.array(self.steps)
        columns["image"] = np.concatenate([np.repeat(b["image"].cpu().numpy(), len(steps)) for b in self.blocks])
        columns["step"] = np.concatenate([np.tile(steps, len(b["image"])) for b in self.blocks])
        columns["mse"] = rounded(np.concatenate([b["mse"].float().numpy().ravel() for b in self.blocks]))
        write_columns(out / "steps.parquet", name | columns | class_column(self.blocks))
        if not self.maps:
            return
        rows: dict[str, list] = {}
        for (remedy, mode, order), retention in self.maps.items():
            here = retention.columns()
            n = len(here["step"])
            for key, values in ({"remedy": [remedy] * n, "mode": [mode] * n, "order": [order] * n} | here).items():
                rows.setdefault(key, []).extend(values)
        write_columns(out / "retention.parquet", name | rows)

    def about(self) -> list[dict[str, Any]]:
        """One entry for each row of the table."""
        rows = [self._about(remedy) for remedy in self.remedies]
        nothing = {"calibration": None, "read_s": 0.0, "identity": 0.0, "written_share": {}, "step_size_share": {}}
        if (name := self.task.config.ORACLE) is None:
            return rows
        oracle = {"name": name, "kind": "control", "mode": "prefix", "words": self.task.config.ORACLE_DESCRIPTION}
        at = 1 + max(i for i, row in enumerate(rows) if row["control"])
        return [*rows[:at], oracle | {"control": True} | nothing, *rows[at:]]

    def _about(self, remedy: Remedy) -> dict[str, Any]:
        artefact, written = self.artefacts.get(remedy.name), self.written[remedy.name]
        calibration = None
        if artefact is not None:
            calibration = {"images": artefact.images, "n_forward": artefact.n_forward, "seconds": artefact.seconds}
            calibration["T"] = {T: found for T, found in artefact.values.get("T", {}).items() if "factors" in found}
            calibration["remarks"] = self.remarks[remedy.name]
        return {
            "name": remedy.name,
            "kind": remedy.kind,
            "mode": remedy.mode,
            "words": remedy.description,
            "control": remedy.kind in ("control", "vanilla"),
            "calibration": calibration,
            "read_s": self.read_s[remedy.name],
            "identity": self.identity[remedy.name],
            "written_share": {str(T): found["written"] for T, found in written.items()},
            "step_size_share": {str(T): found["step_size"] for T, found in written.items()},
        }


def _random_scores(hashes: Tensor, repeat: int, T: int) -> Tensor:
    """A random number for each step of each sample, (B, T), whatever other samples are read with it."""
    # Not the seeds of the sequences themselves.
    return of_each(hashes, lambda g: torch.rand(T, generator=g), lambda h: (seed_of_repeat(h, repeat + 1) + 1) % 2**63)

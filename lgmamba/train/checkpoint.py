"""Checkpoints: safetensors with JSON inside, never pickle; each file is whole or absent. Glossary: `lgmamba.train`.

model.safetensors   in the output: the trained weights; the metadata holds the run's configuration and the image shape
resume.safetensors  in the work folder: weights, moments of AdamW, and as JSON the step and the history so far
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lgmamba.config.base import ConfigError, validate
from lgmamba.config.run import RunConfig, weights_path
from lgmamba.data.dataset import Dataset
from lgmamba.files import atomic_path
from lgmamba.model.sequences import SequenceModel
from lgmamba.records import ArtefactError, checked, read_record
from lgmamba.tasks.registry import build_model
from lgmamba.train.optimizer import Moments

log = logging.getLogger(__name__)

RESUME = "resume.safetensors"


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        step: next step to run.
        elapsed_s: seconds trained so far, over all attempts.
        history: rows of the history so far.
        runs: most trainings that it was trained beside so far, itself included.
    """

    step: int = 0
    elapsed_s: float = 0.0
    history: tuple[dict[str, Any], ...] = ()
    runs: int = 1


def save_model(model: SequenceModel, run: RunConfig, path: Path) -> None:
    """Trained weights, with all that `load_model` needs to build the model again.

    One entry of metadata: safetensors writes several in an order that changes from call to call, and the same training
    would end in other bytes.
    """
    known = json.dumps({"run": run.model_dump(mode="json"), "image_shape": model.shape})
    _write(path, {name: v.detach() for name, v in model.state_dict().items()}, {"lgmamba": known})


def load_model(path: Path | str, device: torch.device | str = "cpu") -> tuple[SequenceModel, RunConfig]:
    """A trained model in eval mode, and the run that trained it.

    Raises:
        ConfigError: the file is missing or no checkpoint of this project, or its configuration is invalid.
    """
    path = Path(path)
    if path.is_dir():
        inside = [p for p in (path / "model.safetensors", path / "train/model.safetensors") if p.is_file()]
        hint = f"name {inside[0]}" if inside else "and none is in it; `lgmamba train` writes model.safetensors"
        raise ConfigError(f"{path} is a folder, expected a checkpoint: {hint}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            known = json.loads((file.metadata() or {})["lgmamba"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        run = validate(RunConfig, known["run"], f"{path} (metadata)")
        shape = tuple(known["image_shape"])
    except (OSError, SafetensorError, KeyError, ValueError) as e:
        raise ConfigError(
            f"{path}: expected a checkpoint written by `lgmamba train`; {type(e).__name__}: {e}"
        ) from None
    model = build_model(run, shape).to(device)
    model.load_state_dict(tensors)
    return model.eval(), run


def load_model_of(run: RunConfig, train: Path, device: torch.device | str = "cpu") -> SequenceModel:
    """The trained model of a run, where the folder holds it as the run is configured now.

    Args:
        run: the run and seed that are asked for.
        train: folder written by `lgmamba train`.
        device: where the model goes.
    Returns:
        the model, in eval mode.
    Raises:
        ArtefactError: the file is missing, damaged or not finished.
        ConfigError: it is no checkpoint of this project, or another run's or another configuration's.
    """
    path = checked(train, "model.safetensors", "train")
    model, trained = load_model(path, device)
    if trained != run:
        raise ConfigError(
            f"{path}: expected the checkpoint of run {run.run!r} seed {run.seed} of study {run.study!r} as configured now, "
            f"found one of {trained.run!r} seed {trained.seed} of study {trained.study!r}; train it again"
        )
    return model


def initial_weights(run: RunConfig, out: Path) -> Path | None:
    """The file of weights that a training starts from (`train.init_from`), or None.

    Args:
        out: the training's own folder of results, beside which other runs of the study have theirs.
    Raises:
        ConfigError: there is no such file.
    """
    path = weights_path(run, out)
    if path is not None and not path.is_file():
        raise ConfigError(
            f"run {run.run!r}, seed {run.seed}: train.init_from: found {run.train.init_from!r}, expected trained weights in {path}, "
            "where no file is"
        )
    return path


def start_from(model: SequenceModel, path: Path, run: RunConfig) -> None:
    """Give a model the weights of another training.

    Raises:
        ConfigError: the file is no checkpoint, or one of a model with other weights; names some of them.
    """
    other, _ = load_model(path, model.device)
    mine, theirs = ({name: tuple(v.shape) for name, v in m.state_dict().items()} for m in (model, other))
    if mine != theirs:
        differ = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        raise ConfigError(
            f"run {run.run!r}: train.init_from: {path} holds a model of another form; expected the same names and shapes, found "
            + "; ".join(f"{name}: {theirs.get(name, 'nothing')} for {mine.get(name, 'nothing')}" for name in differ[:3])
        )
    model.load_state_dict(other.state_dict())


def check_trained_on(train: Path, dataset: Dataset) -> str:
    """Whether a training read these images; returns the digest of its checkpoint.

    Raises:
        ArtefactError: it is not finished, or it read others, so that what is held out here it may have seen.
    """
    record = read_record(train, "train")
    found = record.key.inputs["images"]
    if found != dataset.digest:
        raise ArtefactError(
            f"{train}: trained on images {found:.12}, but the image artefact now holds {dataset.digest:.12}; train it again"
        )
    return record.files["model.safetensors"]


def save_progress(
    work: Path, progress: Progress, key: dict[str, Any], weights: dict[str, Tensor], moments: Moments
) -> None:
    """Everything that an interrupted training needs to end as if it had not been.

    Args:
        key: what the training is (configuration, code, images); another key starts afresh.
        weights: the model's state dict.
        moments: what the optimiser keeps.
    """
    tensors = {f"model.{name}": v.detach() for name, v in weights.items()}
    for i, state in moments.items():
        tensors |= {f"optimizer.{i}.{name}": v for name, v in state.items()}
    values = {name: getattr(progress, name) for name in ("step", "elapsed_s", "history", "runs")}
    known = {"key": json.dumps(key, sort_keys=True), "progress": json.dumps(values)}
    _write(work / RESUME, tensors, known | {"digest": _digest(tensors, known)})


def load_progress(work: Path, key: dict[str, Any]) -> tuple[Progress, dict[str, Tensor], Moments] | None:
    """What `save_progress` was given; None where there is nothing that fits, so that training begins at the beginning."""
    path = work / RESUME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            known = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as e:
        log.warning("%s cannot be read (%s): training from the beginning", path, e)
        return None
    if known.get("key") != json.dumps(key, sort_keys=True):
        log.info("%s belongs to another configuration, code or set of images: training from the beginning", path)
        return None
    if known.pop("digest", None) != _digest(tensors, known):
        log.warning("%s is damaged (its digest is another): training from the beginning", path)
        return None
    weights = {n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")}
    moments: Moments = {}
    for name, v in tensors.items():
        if name.startswith("optimizer."):
            _, i, moment = name.split(".")
            moments.setdefault(int(i), {})[moment] = v
    values = json.loads(known["progress"])
    return Progress(**(values | {"history": tuple(values["history"])})), weights, moments


def remove_progress(work: Path) -> None:
    """Take away what `save_progress` left, once nobody needs it any more."""
    (work / RESUME).unlink(missing_ok=True)


def _digest(tensors: dict[str, Tensor], known: dict[str, str]) -> str:
    """Of everything in a resume checkpoint, whatever order it lies in."""
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    for name in sorted(tensors):
        v = tensors[name].contiguous().cpu()
        digest.update(f"{name} {v.dtype} {list(v.shape)}\n".encode())
        digest.update(v.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with atomic_path(path) as part:
        save_file({name: v.contiguous().cpu() for name, v in tensors.items()}, part, metadata=metadata)

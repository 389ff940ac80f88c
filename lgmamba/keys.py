"""Stage -> what decides its result (`lgmamba.records.Key`): asked before a stage runs, and recorded when it is done.

Both ask here, so that they cannot differ. Nothing heavy is imported: Snakemake asks at every call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgmamba.config.data import DataConfig
from lgmamba.config.files import ENTRY_MODULES, EvaluationFile, ProbesFile, RemedyFile
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params
from lgmamba.files import digest_of, file_digest
from lgmamba.provenance import code_digest
from lgmamba.records import Key, Record

if TYPE_CHECKING:
    from lgmamba.tradeoff.config import TradeoffParams

MAY_DIFFER = ("outputs", "tracking", "device")
"""Sections of params.yaml that change no number of a study: where things lie, who is told, what computes."""


def data_key(config: DataConfig, images: str) -> Key:
    """Of the image artefact; `images` is the digest of the files that the images come from."""
    return Key("data", {}, digest_of(config.model_dump(mode="json")), _code("data"), {"images": images})


def train_key(run: RunConfig, images: str, weights: Path | None = None) -> Key:
    """Of one training; `images` is the digest of the image artefact's tensors, `weights` what it starts from, if not random."""
    inputs = {"images": images}
    if weights is not None:
        inputs["init_from"] = file_digest(weights) if weights.is_file() else ""
    return Key("train", _of(run), digest_of(run.model_dump(mode="json")), _code("train"), inputs)


def reading_key(file: EvaluationFile | RemedyFile | ProbesFile, images: str, weights: str) -> Key:
    """Of what one trained run is read for; `weights` is the digest of its checkpoint."""
    stage = {EvaluationFile: "reconstruct", RemedyFile: "remedy", ProbesFile: "probes"}[type(file)]
    inputs = {"images": images, "weights": weights}
    return Key(stage, _of(file.run), digest_of(file.model_dump(mode="json")), _code(stage), inputs)


def evaluate_key(params: Params, results: Mapping[str, Record | None]) -> Key:
    """Of a study's frames; `results` are the records of every folder read, by its path below the study's results."""
    return _of_study("evaluate", params, {name: r.digest() if r else "" for name, r in results.items()})


def figure_key(params: Params, frames: Record | None, names: tuple[str, ...]) -> Key:
    """Of one figure, made from the named files among the frames, of the runs that are shown."""
    shown = {} if params.report.shown is None else {"shown": digest_of(params.report.shown)}
    return _of_study("figure", params, {"frames": frames.digest(names) if frames else ""} | shown)


def report_key(
    params: Params, frames: Record | None, names: tuple[str, ...], figures: Mapping[str, Record | None]
) -> Key:
    """Of the report, made from the named files among the frames and from every figure's picture."""
    pictures = {name: r.digest((f"{name}.png",)) if r else "" for name, r in figures.items()}
    inputs = {"frames": frames.digest(names) if frames else "", "figures": digest_of(pictures)}
    every_value = digest_of(params.model_dump(mode="json"))  # the report ends with all of them
    return replace(_of_study("report", params, inputs), config=every_value)


def track_report_key(params: Params, report: Record | None) -> Key:
    """Of the mark that the tracking store was told of a report."""
    store = digest_of(params.tracking.model_dump(mode="json"))
    return Key("track_report", {"study": params.study}, store, "", {"report": report.digest() if report else ""})


def study_values(params: Params | TradeoffParams) -> dict[str, Any]:
    """All values that change a number of a study, of either kind; which of its runs are shown changes none."""
    values = {k: v for k, v in params.model_dump(mode="json").items() if k not in MAY_DIFFER}
    return values | {"report": {k: v for k, v in values["report"].items() if k != "shown"}}


def study_digest(params: Params) -> str:
    """Digest of all that changes a number of the study."""
    return digest_of(study_values(params))


def _of_study(stage: str, params: Params, inputs: dict[str, str]) -> Key:
    return Key(stage, {"study": params.study}, study_digest(params), _code(stage), inputs)


def _of(run: RunConfig) -> dict[str, str | int]:
    return {"study": run.study, "run": run.run, "seed": run.seed}


@cache
def _code(stage: str) -> str:
    return code_digest(ENTRY_MODULES[stage])

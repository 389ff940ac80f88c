"""A whole study: params.yaml with an optional overlay, validated, and expanded into runs.

params.yaml  <-  workflow/presets/<preset>.yaml (after the one it extends)  <-  values given by hand  ->  Params  ->  {name: RunConfig}
"""

import math
import os
from bisect import insort
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from lgmamba.config.base import (
    Folder,
    Multiple,
    Name,
    Positive,
    Seed,
    Strict,
    in_yaml,
    problems,
    unknown_key,
    validate,
)
from lgmamba.config.claims import ClaimsConfig, needed_steps
from lgmamba.config.data import DataConfig
from lgmamba.config.overlays import merge, overlaid, overlays
from lgmamba.config.probes import ProbesConfig
from lgmamba.config.remedies import Remedies, RemedyEvaluationConfig, with_kinds
from lgmamba.config.report import ReportConfig
from lgmamba.config.run import ModelConfig, RunConfig
from lgmamba.config.task import Order
from lgmamba.config.text import read_yaml
from lgmamba.config.together import check_study
from lgmamba.config.training import TrainConfig
from lgmamba.files import digest_of
from lgmamba.tasks.configs import TaskConfig

PANEL_STEPS = 60
"""Steps, at least, of which pictures are kept; fewer where a study reads fewer."""


ReadingPrecision = Annotated[
    Literal["fp32", "tf32"],
    Field(
        exclude_if=lambda precision: precision == "fp32",  # files without it stay what they are, to the byte
        description="of matrix products on a GPU, where reconstructions and remedies are read: fp32, or tf32 (factors of 10 binary digits), "
        "which is faster; calibration, probes and a CPU are always in fp32",
    ),
]


class EvaluationConfig(Strict):
    """Per-step reconstructions of held-out images."""

    RENAMED: ClassVar = {"max_factor": "max_length_ratio", "factors": "length_ratios", "piece": "chunk"}

    split: Literal["val", "test"] = Field(description="which images; test is for the final answer only")
    images: Positive = Field(description="images, at most")
    repeats: Positive = Field(description="visiting orders per image")
    orders: list[Order] = Field(min_length=1, description="visiting orders; the first is the headline")
    max_length_ratio: Multiple = Field(description="longest sequence, in units of the study's largest training length")
    length_ratios: list[Multiple] = Field(
        description="steps reported beyond L0, in units of the run's own training length"
    )
    extra_steps: list[Positive] = Field(description="further steps reported, patches")
    batch_images: Positive = Field(description="images a pass")
    chunk: Positive = Field(description="steps held in memory at a time")
    panel_images: Positive = Field(description="images whose reconstructions are kept as pictures")
    precision: ReadingPrecision = "fp32"


class OutputsConfig(Strict):
    """Where things go, relative to the repository; what is not given is named after the study."""

    data: Folder = Field(description="the image artefact; data/<study>")
    results: Folder = Field(description="runs, frames, logs; results/<study>")
    reports: Folder = Field(description="report and figures; reports/<study>")
    outside: Literal["refuse", "allow"] = Field(
        "refuse", description="whether they, and tracking.store, may lie outside the repository"
    )


OUTPUTS = ("data", "results", "reports")


def named_outputs(values: Any) -> Any:
    """Values of a study of any kind, with folders after its name where none are given."""
    if isinstance(values, dict) and isinstance(values.get("outputs", {}), dict | None):
        own = {name: f"{name}/{values.get('study')}" for name in OUTPUTS}
        return values | {"outputs": own | (values.get("outputs") or {})}
    return values


def check_folders(outputs: OutputsConfig, others: dict[str, Path] | None = None) -> None:
    """Refuse folders outside the repository, unless `outputs.outside` says otherwise; `others`: further keys and folders."""
    folders = {f"outputs.{name}": getattr(outputs, name) for name in OUTPUTS}
    for key, path in (folders | (others or {})).items():
        if os.path.normpath(path) == ".":
            raise ValueError(f"{key}: found {str(path)!r}, the repository itself, expected: a folder below it")
        if outputs.outside == "refuse" and (path.is_absolute() or os.path.normpath(path).startswith("..")):
            raise ValueError(
                f"{key}: found {str(path)!r}, expected: a folder below the repository, or outputs.outside: allow"
            )
    if os.path.normpath(outputs.data) == os.path.normpath(outputs.reports):
        raise ValueError(
            f"outputs.reports: found {str(outputs.reports)!r}, which is outputs.data, expected: a folder of its own"
        )


def check_seeds(seeds: list[int]) -> None:
    """Refuse a seed that is there twice."""
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds: found {seeds}, expected: each seed once")


class TrackingConfig(Strict):
    """MLflow, or nothing."""

    kind: Literal["mlflow", "none"]
    store: Folder = Field(default=Path("mlflow"), description="folder of the SQLite store and its artefacts")


class Params(Strict):
    """params.yaml as a whole."""

    RENAMED: ClassVar = {"extension": "remedy_evaluation", "probe": "evaluation", "inspect": "probes"}

    study: Name
    data: DataConfig
    task: TaskConfig
    model: ModelConfig
    train: TrainConfig
    runs: dict[Name, dict[str, Any] | None] = Field(
        min_length=1,
        description="named entries; each overrides task, model or train, and may have a note and more_seeds",
    )
    seeds: list[Seed] = Field(min_length=1)
    evaluation: EvaluationConfig
    claims: ClaimsConfig = ClaimsConfig()
    report: ReportConfig = ReportConfig()
    remedies: Annotated[Remedies, BeforeValidator(with_kinds)] = Field(
        [], description="tried beyond L0; see remedy_evaluation"
    )
    remedy_evaluation: RemedyEvaluationConfig | None = Field(
        None, description="how remedies are tried; null: they are not"
    )
    probes: ProbesConfig | None = Field(None, description="how trained models are looked into; null: they are not")
    outputs: OutputsConfig = Field(description="folders; by default named after the study")
    tracking: TrackingConfig
    device: Literal["auto", "cpu", "cuda"] = Field(description="auto = CUDA where there is one")

    if TYPE_CHECKING:  # set by `_expand`; no field, and no part of what makes two studies equal
        _expanded: dict[str, RunConfig]

    @model_validator(mode="before")
    @classmethod
    def _outputs_by_study(cls, values: Any) -> Any:
        return named_outputs(values)

    @model_validator(mode="after")
    def _consistent(self):
        check_folders(self.outputs, {"tracking.store": self.tracking.store})
        check_seeds(self.seeds)
        self._expand()
        check_study(self)
        return self

    def _expand(self) -> None:
        base = {s: getattr(self, s).model_dump(mode="json") for s in ("task", "model", "train")}
        base["task"] = {"kind": self.task.kind} | base["task"]  # left out of files by the kind that all had once
        images = digest_of(self.data.model_dump(mode="json"))
        expanded, wrong = {}, []
        for run, override in self.runs.items():
            override = override or {}
            known = {**base, "note": "", "more_seeds": []}
            wrong += [
                unknown_key(f"runs.{run}.{key}", value, known) for key, value in override.items() if key not in known
            ]
            if not isinstance(override.get("note", ""), str):
                wrong.append(f"runs.{run}.note: found {in_yaml(override['note'])}, expected: a text")
            wrong += self._wrong_seeds(run, override.get("more_seeds", []))
            values = merge(base, {key: value for key, value in override.items() if key in base})
            try:
                expanded[run] = RunConfig.model_validate(
                    values | {"study": self.study, "run": run, "seed": self.seeds[0], "images": images}
                )
            except ValidationError as e:
                wrong += problems(e, RunConfig, f"runs.{run}")
        if wrong:
            raise ValueError("\n  ".join(wrong))  # on lines of their own in `explain`
        object.__setattr__(self, "_expanded", expanded)

    def _wrong_seeds(self, run: str, more: Any) -> list[str]:
        try:
            seeds = TypeAdapter(list[Seed]).validate_python(more)
        except ValidationError:
            seeds = None
        if seeds is None or len({*self.seeds, *seeds}) != len(self.seeds) + len(seeds):
            return [
                f"runs.{run}.more_seeds: found {in_yaml(more)}, expected: a list of seeds, each once, none among seeds"
            ]
        return []

    def seeds_of(self, run: str) -> list[int]:
        """Seeds that a run is trained with: those of the study, which all runs share, then its `more_seeds`."""
        return [*self.seeds, *(self.runs[run] or {}).get("more_seeds", [])]

    def runs_by_name(self) -> dict[str, RunConfig]:
        """Run name -> its configuration with the first seed."""
        return dict(self._expanded)

    def run_configs(self) -> dict[tuple[str, int], RunConfig]:
        """(run, seed) -> configuration, in the order of params.yaml."""
        return {
            (name, s): run.model_copy(update={"seed": s})
            for name, run in self._expanded.items()
            for s in self.seeds_of(name)
        }

    def notes(self) -> dict[str, str]:
        """Run name -> what its author has to say about it (why it is there, what is expected), for the report."""
        return {name: override["note"] for name, override in self.runs.items() if override and "note" in override}

    @property
    def names_classes(self) -> bool:
        """Whether some run has a class head beside its decoder."""
        return any(run.model.class_head is not None for run in self._expanded.values())

    @property
    def the_remedy_evaluation(self) -> RemedyEvaluationConfig:
        """`remedy_evaluation`, of a study that tries remedies."""
        if self.remedy_evaluation is None:
            raise ValueError(f"study {self.study!r} tries no remedies: remedy_evaluation is null")
        return self.remedy_evaluation

    @property
    def the_probes(self) -> ProbesConfig:
        """`probes`, of a study that looks into runs."""
        if self.probes is None:
            raise ValueError(f"study {self.study!r} looks into no run: probes is null")
        return self.probes

    @cached_property
    def L0(self) -> int:
        """The study's longest training length, patches."""
        return max(self._lengths)

    def evaluation_steps(self, run: RunConfig) -> list[int]:
        """Steps t at which a run is read: powers of two, every training length, multiples of its L0; up to max_length_ratio x the study's L0."""
        last = int(self.evaluation.max_length_ratio * self.L0)
        powers = {2**k for k in range(last.bit_length())}
        own = {
            round(f * run.L0)
            for f in (*self.evaluation.length_ratios, *self.claims.far_length_ratios, self.evaluation.max_length_ratio)
        }
        own |= needed_steps(self.claims.primary, run.run, run.L0)
        steps = powers | self._lengths | own | set(self.evaluation.extra_steps) | {last}
        return sorted(t for t in steps if 1 <= t <= last)

    def panel_steps(self) -> list[int]:
        """Steps of which pictures are kept, the same for every run: those that a study names for all, then the middles of the
        widest gaps on a log scale, until there are PANEL_STEPS or every step is one.
        """
        return list(self._panel_steps)

    @cached_property
    def _lengths(self) -> set[int]:
        """L0 of every run."""
        return {run.L0 for run in self._expanded.values()}

    @cached_property
    def _panel_steps(self) -> list[int]:
        last = int(self.evaluation.max_length_ratio * self.L0)
        named = {2**k for k in range(last.bit_length())} | self._lengths
        named |= {round(f * self.L0) for f in (*self.evaluation.length_ratios, *self.claims.far_length_ratios)}
        named |= {*self.evaluation.extra_steps, last}
        steps = sorted(t for t in named if 1 <= t <= last)
        while len(steps) < PANEL_STEPS:
            gaps = [(b / a, a, b) for a, b in pairwise(steps) if b - a > 1]
            if not gaps:
                break
            _, a, b = max(gaps)
            insort(steps, min(max(round(math.sqrt(a * b)), a + 1), b - 1))
        return steps


def load_params(
    path: str | Path = "params.yaml", preset: str | None = None, overrides: dict[str, Any] | None = None
) -> Params:
    """Read and validate a study.

    Args:
        path: params.yaml.
        preset: name of a file in workflow/presets (beside params.yaml, or of this package), or the path of a YAML overlay.
        overrides: further values on top, nested as in the file.
    Raises:
        ConfigError: missing or unreadable file, or invalid values; names each key.
    """
    values, source = read_yaml(Path(path)), str(path)
    for overlay, content in overlays(preset, Path(path).parent):
        values, source = overlaid(values, content), f"{source} with {overlay}"
    if overrides:
        values, source = overlaid(values, overrides), f"{source} with values given by hand"
    return validate(Params, values, source)

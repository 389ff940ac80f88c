"""The section `remedies:` of params.yaml, which lists what is done to trained runs beyond their training length, and `remedy_evaluation:`,
which says how it is tried.

An entry has a name, a kind with the keys of that kind (`lgmamba.remedies.configs`), and a mode. An entry `{name, combine: [names]}`
applies other entries one after the other.

Glossary: L0 longest training length of a run; T length of the sequence, t step, in patches; s factor.
"""

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from lgmamba.config.base import Multiple, Name, Positive, Strict
from lgmamba.config.run import RunConfig
from lgmamba.config.task import Invariance, Order, TaskBase
from lgmamba.mixers.base import Verb
from lgmamba.remedies.configs import Entry
from lgmamba.remedies.entry import Mode

CONTROLS_BY_INVARIANCE: dict[Invariance, tuple[str, ...]] = {
    "prefix_drop": ("truncate", "reset"),
    "subset": ("subset_random",),
    "cover": ("subset_cover",),
}
"""What is done to sequences -> the controls that do it; see `lgmamba.remedies.controls`."""
ORACLES = ("paste", "oracle_memory", "least_squares", "exact", "law")
"""Rows that know all that can be known of what was read, by task: a floor for remedies, no competitors."""
RESERVED = (
    "vanilla",
    "vanilla_stream",
    *(name for names in CONTROLS_BY_INVARIANCE.values() for name in names),
    "freeze",
    *ORACLES,
)
"""Names of rows that are there without an entry, of all tasks."""


class Combination(Strict):
    """Other entries, one after the other from left to right, each as calibrated alone."""

    name: Name
    kind: Literal["combine"] = "combine"
    combine: list[Name] = Field(min_length=2, description="names of other entries, of the same mode")

    @property
    def calibrated(self) -> bool:
        return False

    @property
    def description(self) -> str:
        return " + ".join(self.combine)


RemedyConfig = Annotated[Entry | Combination, Field(discriminator="kind")]
Remedies = list[RemedyConfig]


class CalibrationConfig(Strict):
    """How the values of remedies are found, on images of the calib split."""

    RENAMED: ClassVar = {"piece": "chunk"}

    images: Annotated[int, Field(ge=2, lt=1 << 31)] = Field(description="half to optimise on, half to keep the best by")
    steps: Positive = Field(description="iterations of zeroth order (two passes each) or back-propagation")
    lengths: list[Annotated[float, Field(gt=1, le=1e6)]] = Field(
        min_length=1, description="T / L0 calibrated for; between them ln s is linear in ln T"
    )
    order: Order = Field("permutation", description="visiting order of the calibration images")
    chunk: Positive | None = Field(None, description="steps held in memory at a time, patches; null: evaluation.chunk")

    @field_validator("lengths")
    @classmethod
    def _ascending(cls, lengths: list[float]) -> list[float]:
        if lengths != sorted(set(lengths)):
            raise ValueError(f"ascending multiples of L0; got {lengths}")
        return lengths


class RemedyEvaluationConfig(Strict):
    """How remedies are tried."""

    RENAMED: ClassVar = {"factors": "length_ratios"}

    runs: list[Name] = Field(min_length=1, description="runs that they are tried on, with every seed")
    length_ratios: list[Multiple] = Field(min_length=1, description="T / L0 reported")
    orders: list[Order] = Field(min_length=1, description="visiting orders")
    images: Positive = Field(description="images of evaluation.split, at most")
    repeats: Positive = Field(1, description="visiting orders an image")
    calibration: CalibrationConfig

    def steps(self, L0: int) -> list[int]:
        """Steps reported for a run: some up to L0, where every remedy must change nothing, and the ratios."""
        return sorted({max(1, L0 // 4), max(1, L0 // 2), L0} | {round(f * L0) for f in self.length_ratios})


def with_kinds(entries: Any) -> Any:
    """Entries as a person writes them: a combination needs no kind."""
    if not isinstance(entries, list):
        return entries
    return [{"kind": "combine"} | e if isinstance(e, dict) and "combine" in e else e for e in entries]


def check_names(entries: Remedies) -> None:
    """Names are unique and free; combinations name other entries of one mode that go together.

    Raises:
        ValueError: names the entry, what was found and what would work.
    """
    by_name = {e.name: e for e in entries if not isinstance(e, Combination)}
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        path = f"remedies.{i}"
        if entry.name in seen or entry.name in RESERVED:
            taken = "another entry has" if entry.name in seen else "a row that is always there has"
            raise ValueError(f"{path}.name: found {entry.name!r}, which {taken}; expected a name of its own")
        seen.add(entry.name)
        if isinstance(entry, Combination):
            _check_combination(path, entry, by_name)


def combined(entry: Entry | Combination, entries: Remedies) -> list[Entry]:
    """The entries that one entry applies, in their order."""
    if not isinstance(entry, Combination):
        return [entry]
    by_name = {e.name: e for e in entries if not isinstance(e, Combination)}
    return [by_name[name] for name in entry.combine]


def mode_of(entry: Entry | Combination, entries: Remedies) -> Mode:
    return combined(entry, entries)[0].mode


def controls_of(task: TaskBase | type[TaskBase]) -> tuple[str, ...]:
    """The controls that are read of a task: those that change no target, and those that must lose; `freeze` always."""
    done = task.INVARIANT | task.COUNTEREXAMPLES
    return (*(name for kind, names in CONTROLS_BY_INVARIANCE.items() if kind in done for name in names), "freeze")


def rows_of(task: TaskBase | type[TaskBase]) -> tuple[str, ...]:
    """Names of the rows that stand beside the entries of `remedies` for a task."""
    oracle = () if task.ORACLE is None else (task.ORACLE,)
    return ("vanilla", "vanilla_stream", *controls_of(task), *oracle)


def check_kinds(entries: Remedies, runs: Mapping[str, RunConfig], orders: list[str]) -> None:
    """The tasks of the runs that remedies are tried on have a use for them, on sequences of these orders.

    Raises:
        ValueError: names the entry, the run, and why it makes no sense there.
    """
    for (run, config), (i, entry), order in itertools.product(runs.items(), enumerate(entries), orders):
        mode = None if isinstance(entry, Combination) else entry.mode
        reason = config.task.refuses(entry.kind, mode, order)
        if reason is None and not isinstance(entry, Combination):
            needed = entry.invariance
            if needed is not None and needed not in config.task.INVARIANT:
                reason = f"its form {entry.form_name} {UNMADE[needed]}"
        if reason is not None:
            raise ValueError(
                f"remedies.{i}: found {entry.name!r} of kind {entry.kind}, which makes no sense for task {config.task.kind} of run "
                f"{run!r} (order {order}): {reason}; expected other remedies"
            )


UNMADE: dict[Invariance, str] = {
    "cover": "is made of steps that show different parts of the target, and none show any",
    "order": "reads steps in another order, which would be another sequence",
}
"""What a form does to sequences -> why it cannot, where a task does not allow it."""

CONTROL_VERBS: dict[str, frozenset[Verb]] = {"reset": frozenset({"reset"}), "freeze": frozenset({"mask"})}
"""What controls act with; the others choose among the steps that are read."""


def check_mixers(entries: Remedies, runs: Mapping[str, RunConfig]) -> None:
    """The mixers of the runs that remedies are tried on support the verbs that entries and controls act with.

    Raises:
        ValueError: names the entry, the run, and why its mixer cannot do it.
    """
    controls = frozenset().union(*CONTROL_VERBS.values())
    for run, config in runs.items():
        for i, entry in enumerate(entries):
            if not isinstance(entry, Combination) and (reason := entry.refusal(config.model.mixer)):
                raise ValueError(
                    f"remedies.{i}: found {entry.name!r} of kind {entry.kind}, but run {run!r} has mixer {config.model.mixer.kind}, "
                    f"which has {reason}; expected remedies that it supports, or remedy_evaluation.runs without {run!r}"
                )
        if reason := config.model.mixer.refusal(controls):
            raise ValueError(
                f"remedy_evaluation.runs: found {run!r}, but controls cannot be read with its mixer: {reason}"
            )


def _check_combination(path: str, entry: Combination, by_name: dict[str, Entry]) -> None:
    for name in entry.combine:
        if name not in by_name:
            raise ValueError(
                f"{path}.combine: found {name!r}, expected names of other entries that are no combinations: {sorted(by_name)}"
            )
        if not by_name[name].COMBINES:
            raise ValueError(
                f"{path}.combine: found {name!r} of kind {by_name[name].kind}, which cannot be combined; expected other kinds"
            )
    scans = {name: by_name[name].SCAN for name in entry.combine if by_name[name].SCAN != "kept"}
    if "replaced" in scans.values() and len(scans) > 1:
        raise ValueError(
            f"{path}.combine: found {entry.combine}, of which two replace the scan; expected one of {', '.join(scans)}"
        )
    modes = {name: by_name[name].mode for name in entry.combine}
    if len(set(modes.values())) > 1:
        found = ", ".join(f"{name}: {mode}" for name, mode in modes.items())
        raise ValueError(f"{path}.combine: found entries of different modes ({found}); expected one mode for all")

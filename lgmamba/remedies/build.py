"""From an entry of params.yaml and its calibrated values to something that a sequence can be read with.

Glossary: `lgmamba.remedies`; M factors.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgmamba.config.remedies import (
    AssembleRemedy,
    Combination,
    DeciMambaRemedy,
    Entry,
    LongMambaRemedy,
    Mode,
    NormaliseStateRemedy,
    Remedies,
    RetainInsertRemedy,
    ScheduleRemedy,
    SpectrumRemedy,
    StepSizeRemedy,
    WindowRemedy,
    combined,
)
from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Hook
from lgmamba.model import SequenceModel, Sequences
from lgmamba.model.runner import MakeHook
from lgmamba.remedies import controls
from lgmamba.remedies.assemble import assemble
from lgmamba.remedies.base import beyond, chain, constant_schedule, follow_length, power_schedule
from lgmamba.remedies.deci_stream import DeciStream, read_decimated
from lgmamba.remedies.decimamba import decimate
from lgmamba.remedies.factors import LengthFactors, by_layer, length_factors, n_factors
from lgmamba.remedies.longmamba import Thresholds, keep_to_budget, mask_random_steps, mask_steps
from lgmamba.remedies.schedule import GainSchedule
from lgmamba.remedies.spectrum import clip_spectrum, scale_spectrum
from lgmamba.remedies.state import horizon_retention, normalise_state, retain_and_insert
from lgmamba.remedies.step_size import freeze, norm_step_sizes, scale_step_sizes
from lgmamba.remedies.window import sliding_window

Select = Callable[[Sequences, Tensor], Tensor]
"""Sequences of T steps and a random number for each step (B, T) -> ascending positions (B, K) to read."""
Reader = Callable[[SequenceModel, Sequences, list[int], int], Tensor]
"""Model, sequences, steps, piece -> predictions (B, S, *shape), as `lgmamba.model.runner.run_sequence`."""


@dataclass(frozen=True)
class Remedy:
    """What is done to a model, or to its input, beyond its training length.

    Attributes:
        name, kind, mode, words: as in params.yaml; words say the form.
        plan: see `MakeHook`; called anew for every pass.
        whole: whether a sequence must be read in one piece, of which the last output is valid.
        select: which steps are read at all; None for all of them.
        reader: reads in a way of its own, instead of with the plan.
        steps_read: length T -> number of the steps after L0 that a reader without a plan reads.
    """

    name: str
    kind: str
    mode: Mode
    words: str
    plan: MakeHook = lambda T: None
    whole: bool = False
    select: Select | None = None
    reader: Reader | None = None
    steps_read: Callable[[int], int] | None = None


def build(
    entry: Entry | Combination, entries: Remedies, values: dict[str, Any], model: SequenceModel, last: int
) -> Remedy:
    """A remedy for one trained model.

    Args:
        entry: one of `entries`.
        values: calibrated values by name of the entry, see `lgmamba.remedies.fit`.
        model: what it is for; its L0 is where remedies begin.
        last: the length where factors given by hand are reached.
    """
    parts = [BUILDERS[e.kind](e, values.get(e.name), model, last) for e in combined(entry, entries)]
    mode = combined(entry, entries)[0].mode
    if len(parts) == 1:
        return Remedy(entry.name, entry.kind, mode, entry.words, **parts[0])

    def plan(T: int | None) -> Hook | None:
        made = [p for p in (part["plan"](T) for part in parts) if p is not None]
        return chain(*made) if made else None

    return Remedy(entry.name, entry.kind, mode, entry.words, plan, any("whole" in part for part in parts))


def control_remedies(model: SequenceModel, invariant: Collection[str]) -> list[Remedy]:
    """The controls that make sense for a task, by what may be done to its sequences (`lgmamba.tasks.base.Task.invariant`).

    The one that the task itself knows, such as `paste`, reads with no model and is not among them.
    """
    L0 = model.L0
    drop = [
        Remedy("truncate", "control", "prefix", "the last L0 patches", select=lambda _, k: controls.truncate(k, L0)),
        Remedy("reset", "control", "stream", "state set to 0 after every L0 patches", select=lambda _, k: controls.reset(k, L0)),
    ]  # fmt: skip
    subset = [
        Remedy("subset_random", "control", "prefix", "L0 random patches", select=lambda _, k: controls.subset_random(k, L0)),
        Remedy(
            "subset_cover", "control", "prefix", "the newest patch of each cell, L0 of them",
            select=lambda s, _: controls.subset_cover(s.cells, L0, s.n_cells),
        ),
    ]  # fmt: skip
    freeze_at_L0 = Remedy(
        "freeze", "control", "stream", "nothing is written after L0 patches", plan=lambda T: freeze(L0)
    )
    return [*(drop if "prefix_drop" in invariant else []), *(subset if "subset" in invariant else []), freeze_at_L0]


def factor_plan(entry: SpectrumRemedy | StepSizeRemedy, factors: LengthFactors, config: ModelConfig) -> MakeHook:
    """Scale by factors of the length, constant in prefix mode; in stream mode those of A are constant within half of L0."""

    def of_layers(factors: Tensor) -> list[Tensor]:
        return by_layer(factors, entry.scope, config.n_layer, config.modes)

    if entry.kind == "step_size":
        schedules = [lambda t, n=n: of_layers(factors.at_each(t))[n] for n in range(config.n_layer)]
        return lambda T: (
            scale_step_sizes(schedules) if T is None else scale_step_sizes(per_layer=of_layers(factors.at(T)))
        )

    def constant(T: float) -> Hook:
        return scale_spectrum(entry.form, of_layers(factors.at(T)))

    return lambda T: follow_length(factors.L0, max(1, factors.L0 // 2), constant) if T is None else constant(T)


def power_plan(entry: StepSizeRemedy, factors: Tensor, L0: int) -> Hook:
    """dt (L0 / t)^(p f), f one of `factors` (M,) for each layer."""
    return scale_step_sizes([power_schedule(L0, entry.power * f) for f in factors])


def _factors(entry: SpectrumRemedy | StepSizeRemedy, values: Any, model: SequenceModel, last: int) -> MakeHook:
    config = model.config
    if values is None:
        M = n_factors(entry.scope, config.n_layer, config.channels, config.modes)
        values = {"T": {last: {"factors": [entry.factor] * M}}}
    return factor_plan(entry, length_factors(model.L0, values), config)


def _spectrum(entry: SpectrumRemedy, values: Any, model: SequenceModel, last: int) -> dict[str, Any]:
    if entry.form != "clip":
        return {"plan": _factors(entry, values, model, last)}

    def plan(T: int | None) -> Hook | None:
        if T is None:
            return beyond(model.L0, clip_spectrum(*entry.band))
        return None if T <= model.L0 else clip_spectrum(*entry.band)

    return {"plan": plan}


def _step_size(entry: StepSizeRemedy, values: Any, model: SequenceModel, last: int) -> dict[str, Any]:
    L0 = model.L0
    if entry.form in ("layer", "channel"):
        return {"plan": _factors(entry, values, model, last)}
    if entry.form == "norm":
        return {"plan": lambda T: None if T <= L0 else _norm_plan(values, T)}
    if entry.form == "uniform":
        return {"plan": lambda T: scale_step_sizes(constant_schedule(L0, T, entry.power))}
    if values is None:
        return {"plan": lambda T: scale_step_sizes(power_schedule(L0, entry.power))}
    (found,) = values["T"].values()
    return {"plan": lambda T: power_plan(entry, torch.tensor(found["factors"], dtype=torch.float64), L0)}


def _norm_plan(values: Any, T: int) -> Hook:
    budgets, totals = (
        [torch.tensor(v, dtype=torch.float64) for v in found]
        for found in (values["budgets"], values["T"][str(T)]["totals"])
    )
    return norm_step_sizes(budgets, totals)


def _decimamba(entry: DeciMambaRemedy, values: Any, model: SequenceModel, last: int) -> dict[str, Any]:
    layers, L0 = entry.layers if values is None else values["layers"], model.L0
    if entry.mode == "stream":
        (layer,), table = layers, tables_of([values["theta"]], values["lengths"])[0]

        def reader(model: SequenceModel, sequences: Sequences, steps: list[int], piece: int) -> Tensor:
            return read_decimated(model, sequences, steps, layer, table, piece)

        return {"reader": reader, "plan": lambda T: DeciStream(layer, table)}

    def plan(T: int) -> Hook | None:
        if T <= L0:
            return None
        generator = torch.Generator().manual_seed(T)
        return decimate(layers, steps_kept(entry, L0), entry.beta, 1, entry.protected, entry.score, generator)

    return {"plan": plan, "whole": True}


def steps_kept(entry: DeciMambaRemedy, L0: int) -> int:
    """Steps that the first decimating layer keeps besides the protected ones, so that layers above see base x L0."""
    return max(1, round(entry.base * L0) - entry.protected)


def tables_of(theta: list, lengths: list[int]) -> list[Thresholds]:
    """Thresholds (F, D) of each layer, from JSON."""
    return [Thresholds(lengths, torch.tensor(v)) for v in theta]


def _longmamba(entry: LongMambaRemedy, values: Any, model: SequenceModel, last: int) -> dict[str, Any]:
    channels = None if entry.channels == "all" else [torch.tensor(mask) for mask in values["channels"]]
    if entry.threshold == "bound":
        budgets = [torch.tensor(Q) for Q in values["budgets"]]
        return {"plan": lambda T: None if T <= model.L0 else keep_to_budget(budgets, channels), "whole": True}
    if entry.steps == "random":

        def at_random(T: int) -> Hook | None:
            if T <= model.L0:
                return None
            return mask_random_steps([torch.tensor(v) for v in values["shares"][str(T)]], T, channels)

        return {"plan": at_random}
    tables = tables_of(values["theta"], values["lengths"])
    return {"plan": lambda T: mask_steps(tables, channels, T)}


def _retain_insert(entry: RetainInsertRemedy, values: Any, model: SequenceModel, last: int) -> dict[str, Any]:
    L0, retention = model.L0, horizon_retention(model.L0, entry.horizon)

    def plan(T: int | None) -> Hook | None:
        if T is None:
            return retain_and_insert(retention, entry.insertion, after=L0)
        return None if T <= L0 else retain_and_insert(retention, entry.insertion)

    return {"plan": plan}


def _normalise_state(entry: NormaliseStateRemedy, values: Any, model: SequenceModel, last: int) -> dict[str, Any]:
    device = model.device
    largest = [torch.tensor(p, device=device) if isinstance(p, list) else p for p in values["largest"]]
    return {"plan": lambda T: normalise_state(largest, entry.every, after=model.L0)}


def _window(entry: WindowRemedy, values: Any, model: SequenceModel, last: int) -> dict[str, Any]:
    r = max(1, round(entry.r * model.L0))
    return {"plan": lambda T: None if T is not None and T <= model.L0 else sliding_window(r, entry.form)}


def _schedule(entry: ScheduleRemedy, values: Any, model: SequenceModel, last: int) -> dict[str, Any]:
    (found,) = values["T"].values()
    device = model.device
    plan = GainSchedule.of(model, values["knots"], entry.gains).plan(torch.tensor(found["factors"], device=device))
    return {"plan": lambda T: plan}


def _assemble(entry: AssembleRemedy, values: Any, model: SequenceModel, last: int) -> dict[str, Any]:
    def reader(model: SequenceModel, sequences: Sequences, steps: list[int], piece: int) -> Tensor:
        return assemble(model, sequences, steps, entry.mode, entry.windows, entry.take, piece, entry.groupings)

    def after_L0(T: int) -> int:
        return (T if entry.mode == "prefix" else T // model.L0 * model.L0) - model.L0

    return {"reader": reader, "steps_read": after_L0}


BUILDERS = {
    "spectrum": _spectrum,
    "step_size": _step_size,
    "decimamba": _decimamba,
    "longmamba": _longmamba,
    "retain_insert": _retain_insert,
    "normalise_state": _normalise_state,
    "window": _window,
    "schedule": _schedule,
    "assemble": _assemble,
}

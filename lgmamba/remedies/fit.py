"""Finding the values of a remedy for one trained model, on images that are in no other split.

What is lowered is the mean squared error of the reconstruction after the last patch, at each length calibrated for. Half of the
images are optimised on, the other half decide what is kept. Glossary: `lgmamba.remedies`; M factors.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lgmamba.config.remedies import (
    CalibrationConfig,
    DeciMambaRemedy,
    Entry,
    LongMambaRemedy,
    Mode,
    NormaliseStateRemedy,
    ScheduleRemedy,
    SpectrumRemedy,
    StepSizeRemedy,
)
from lgmamba.mixers.contract import Hook
from lgmamba.model import SequenceModel, Sequences
from lgmamba.model.runner import ends, read_pieces, told
from lgmamba.remedies.build import build, factor_plan, power_plan
from lgmamba.remedies.calibrate import Calibration, Objective, by_gradient, loss_at_steps, within, zeroth_order
from lgmamba.remedies.closed_form import StateRecorder, closed_form_factors
from lgmamba.remedies.deci_stream import norm_thresholds
from lgmamba.remedies.factors import LengthFactors, n_factors
from lgmamba.remedies.longmamba import (
    StepSizeRecorder,
    Thresholds,
    random_channels,
    selected_everything,
    thresholds,
    thresholds_as_released,
)
from lgmamba.remedies.longmamba import calibrate as calibrate_filters
from lgmamba.remedies.read import read_with
from lgmamba.remedies.schedule import GainSchedule
from lgmamba.remedies.state import StateNormRecorder
from lgmamba.remedies.step_size import cumulative_steps
from lgmamba.tasks.base import Task

REACH = 1.25
"""A search can move ln s this many times as far as from L0 to the longest length."""


@dataclass(frozen=True)
class CalibrationSet:
    """Sequences to calibrate on, up to the longest length.

    Attributes:
        model: frozen, in eval mode.
        task: says what an error is.
        sequences: one of each sample of the split calib.
        config: how to calibrate.
        steps: lengths that will be reported.
        piece: steps held in memory at a time.
        seed: of random signs.
    """

    model: SequenceModel
    task: Task
    sequences: Sequences
    config: CalibrationConfig
    steps: list[int]
    piece: int
    seed: int

    @property
    def lengths(self) -> list[int]:
        """Lengths T calibrated for, patches."""
        return sorted({max(self.model.L0 + 1, round(f * self.model.L0)) for f in self.config.lengths})

    def tabulated(self, mode: Mode) -> list[int]:
        """Lengths at which thresholds are tabulated: L0 and those reported, and in stream mode half octaves between."""
        L0, last = self.model.L0, self.steps[-1]
        between = [round(L0 * 2 ** (k / 2)) for k in range(64)] if mode == "stream" else []
        return sorted({L0} | {T for T in (*self.steps, *between) if L0 < T <= last})

    def half(self, second: bool) -> "CalibrationSet":
        """The samples to optimise on, or those to keep the best by."""
        middle = len(self.sequences) // 2
        return replace(self, sequences=self.sequences[slice(middle, None) if second else slice(0, middle)])

    def told(self, T: int) -> Tensor | None:
        """What a length-adaptive model is told, (B,)."""
        return told(self.model, len(self.sequences), T)

    @torch.no_grad()
    def record(self, recorder: Hook, T: int, whole: bool = False) -> None:
        """Show a recorder one pass over the first T steps, told T; whole, or in pieces."""
        stops = [T] if whole else ends([T], self.piece)
        for _ in read_pieces(self.model, self.sequences, stops, self.told(T), recorder):
            pass

    def loss(self, steps: list[int], mode: Mode, make_plan: Callable[[Tensor], Hook], piece: int | None) -> Objective:
        """Mean error after some steps of one pass, as a function of ln factors (M,).

        A length-adaptive model is told the last of them in prefix mode, and L0 in stream mode.
        """
        length = self.told(steps[-1] if mode == "prefix" else self.model.L0)
        return loss_at_steps(self.model, self.task, self.sequences, make_plan, steps, length, piece)


@dataclass(frozen=True)
class Fit:
    """JSON values of a remedy, and the forward passes over half of the images that they took."""

    values: dict[str, Any]
    passes: int


def fit(entry: Entry, images: CalibrationSet) -> Fit:
    """Calibrate one entry that says that it is calibrated."""
    return FITS[entry.kind](entry, images)


def remarks(entry: Entry, values: dict[str, Any]) -> list[str]:
    """What a person should know about the values of an entry, whether found just now or taken from a file."""
    if entry.kind != "longmamba" or entry.channels == "all":
        return []
    remark = selected_everything(values["channels"])
    return [] if remark is None else [remark]


def _fit_step_size(entry: StepSizeRemedy, images: CalibrationSet) -> Fit:
    if entry.form == "norm":
        return _fit_norm(images)
    if entry.form == "power":
        return _fit_power(entry, images)
    return _fit_factors(entry, images)


def _fit_factors(entry: SpectrumRemedy | StepSizeRemedy, images: CalibrationSet) -> Fit:
    """Under "T": length -> factors (M,), and the error before and after on the images held out.

    In prefix mode each length is a problem of its own. In stream mode one pass goes through all lengths, and what is lowered is
    their mean error, for all of their factors at once.
    """
    L0, lengths, config = images.model.L0, images.lengths, images.model.config
    M = n_factors(entry.scope, config.n_layer, config.channels, config.modes)
    problems = [lengths] if entry.mode == "stream" else [[T] for T in lengths]
    recorder = _record(images, L0) if "closed_form" in (entry.calibrate, entry.start) else None
    values, passes = {}, 0
    for steps in problems:

        def make_plan(factors: Tensor, steps: list[int] = steps) -> Hook:
            given = LengthFactors(L0, steps, factors.reshape(len(steps), M).log())
            return factor_plan(entry, given, config)(None if entry.mode == "stream" else steps[-1])

        losses = [images.half(second).loss(steps, entry.mode, make_plan, images.piece) for second in (False, True)]
        start = None if recorder is None else _closed_form(entry, recorder, L0, steps)
        if entry.calibrate == "closed_form":
            found = _as_it_is(within(start, entry.bounds), losses[1])
        else:
            found = _search(entry.calibrate, *losses, len(steps) * M, images, start, entry.bounds)
        for T, factors in zip(steps, found.theta.exp().reshape(len(steps), M).tolist(), strict=True):
            values[str(T)] = {"factors": factors, "before": found.before, "after": found.after}
        passes += found.passes
    return Fit({"T": values}, passes + (2 if recorder is not None else 0))


@torch.no_grad()
def _closed_form(entry: SpectrumRemedy | StepSizeRemedy, recorder: StateRecorder, L0: int, steps: list[int]) -> Tensor:
    """ln of the factors for each of some lengths, from recorded states: (K n_layer,)."""
    factors = [s for T in steps for s in closed_form_factors(recorder, entry.kind, L0, T)]
    return torch.tensor(factors, dtype=torch.float64).log()


@torch.no_grad()
def _as_it_is(theta: Tensor, held_out: Objective) -> Calibration:
    """No search: the error before and after is only looked at."""
    before, after = (float(held_out(v)) for v in (torch.zeros_like(theta), theta))
    return Calibration(theta, before, after, 0)


def _fit_power(entry: StepSizeRemedy, images: CalibrationSet) -> Fit:
    """Under "T" at the longest length: a factor on p for each layer, for the mean error over lengths of one pass."""

    def make_plan(factors: Tensor) -> Hook:
        return power_plan(entry, factors, images.model.L0)

    losses = [images.half(second).loss(images.lengths, "stream", make_plan, images.piece) for second in (False, True)]
    found = _search(entry.calibrate, *losses, images.model.config.n_layer, images)
    values = {"factors": found.factors, "before": found.before, "after": found.after}
    return Fit({"T": {str(images.lengths[-1]): values}}, found.passes)


@torch.no_grad()
def _fit_norm(images: CalibrationSet) -> Fit:
    """Mean cumulative step of each layer and channel over L0 steps, and under "T" over each longer length reported."""

    def sums(T: int) -> list[list[float]]:
        return [v.tolist() for v in cumulative_steps(_record(images, T).step_sizes, T)]

    found = {str(T): {"totals": sums(T)} for T in images.steps if T > images.model.L0}
    return Fit({"budgets": sums(images.model.L0), "T": found}, 2 * (1 + len(found)))


def _record(images: CalibrationSet, T: int) -> StateRecorder:
    """What the layers do over the first T steps of all calibration samples."""
    recorder = StateRecorder()
    images.record(recorder, T)
    return recorder


def _search(
    how: str,
    objective: Objective,
    held_out: Objective,
    M: int,
    images: CalibrationSet,
    start: Tensor | None = None,
    bounds: tuple[float, float] | None = None,
) -> Calibration:
    """As far as ln s may have to go: factors that undo a longer sequence are about L0 / T."""
    travel, steps = REACH * math.log(images.lengths[-1] / images.model.L0), images.config.steps
    if how == "gradient":
        return by_gradient(objective, held_out, M, steps, travel, start=start, bounds=bounds)
    return zeroth_order(objective, held_out, M, steps, images.seed, travel=travel, start=start, bounds=bounds)


@torch.no_grad()
def _fit_decimamba(entry: DeciMambaRemedy, images: CalibrationSet) -> Fit:
    """The layer with the smallest error if it alone decimates, mean over the lengths calibrated for; in stream mode thresholds."""
    candidates = range(images.model.config.n_layer) if isinstance(entry.layers, str) else entry.layers
    tables = _norm_tables(images, candidates) if entry.mode == "stream" else {}
    found: dict[int, dict[str, Any]] = {}
    for layer in candidates:
        values: dict[str, Any] = {"layers": [layer]}
        if tables:
            values |= {"lengths": list(tables[layer].lengths), "theta": tables[layer].theta.tolist()}
        scored = entry.model_copy(update={"score": "step_size"})  # ablations of the score decimate where the score does
        remedy = build(scored, [scored], {entry.name: values}, images.model, images.lengths[-1])
        sequences, steps = images.sequences, torch.tensor(images.lengths, device=images.sequences.device)
        keys = torch.zeros(len(sequences), sequences.T, device=sequences.device)
        prediction = read_with(images.model, remedy, sequences, keys, images.lengths, images.piece)
        found[layer] = values | {"loss": float(images.task.mean_error(prediction, sequences, steps))}
    best = min(found, key=lambda layer: found[layer]["loss"])
    values = found[best] | {"loss_by_layer": {str(layer): v["loss"] for layer, v in found.items()}}
    if entry.layers == "best_and_above":
        values["layers"] = [layer for layer in candidates if layer >= best]
    passes = 2 * len(found) * (1 if tables else len(images.lengths)) + 2 * bool(tables)
    return Fit(values, passes)


def _norm_tables(images: CalibrationSet, layers: Iterable[int]) -> dict[int, Thresholds]:
    recorder = _record_steps(images)
    return {n: norm_thresholds(recorder, n, images.model.L0, images.tabulated("stream")[1:]) for n in layers}


@torch.no_grad()
def _fit_longmamba(entry: LongMambaRemedy, images: CalibrationSet) -> Fit:
    """Which channels are filtered, (D,) for each layer, and what the form needs: thresholds, shares or budgets."""
    L0, recorder = images.model.L0, _record_steps(images)
    filters = calibrate_filters(recorder, L0, entry.above, entry.survival)
    channels = [f.long_memory.cpu() for f in filters]
    if entry.channels == "random":
        channels = random_channels(channels, torch.Generator().manual_seed(images.seed))
    values: dict[str, Any] = {"channels": [mask.tolist() for mask in channels]}
    lengths = images.tabulated(entry.mode)
    if entry.threshold == "bound":
        values["budgets"] = [Q.tolist() for Q in cumulative_steps(recorder.step_sizes, L0)]
    elif entry.steps == "random":
        values["shares"] = {str(T): [f.kept_share(f.threshold(L0 / T)).tolist() for f in filters] for T in lengths[1:]}
    else:
        tables = thresholds(filters, L0, lengths[1:])
        if entry.threshold == "as_released":
            tables = thresholds_as_released(recorder, L0, lengths[1:], 0.1 if entry.clamp is None else entry.clamp)
        values |= {"lengths": lengths, "theta": [table.theta.tolist() for table in tables]}
    return Fit(values, 2)


def _record_steps(images: CalibrationSet) -> StepSizeRecorder:
    """Step sizes of sequences of the training length, read whole."""
    recorder = StepSizeRecorder()
    images.record(recorder, images.model.L0, whole=True)
    return recorder


@torch.no_grad()
def _fit_normalise_state(entry: NormaliseStateRemedy, images: CalibrationSet) -> Fit:
    """The norms that states are held below: a quantile over images of their largest norm within L0 steps."""
    recorder = StateNormRecorder(entry.groups, entry.every)
    images.record(recorder, images.model.L0, whole=True)
    thresholds = recorder.thresholds(entry.quantile)
    return Fit({"largest": [p.tolist() if isinstance(p, Tensor) else p for p in thresholds]}, 2)


def _fit_schedule(entry: ScheduleRemedy, images: CalibrationSet) -> Fit:
    """Under "T" at the longest length: factors at the knots, the lengths calibrated for; for the mean error at those and all reported."""
    L0, last = images.model.L0, images.lengths[-1]
    knots = [T / L0 for T in images.lengths]
    schedule = GainSchedule.of(images.model, knots, entry.gains)
    steps = sorted({*images.lengths, *(T for T in images.steps if L0 < T <= last)})
    losses = [images.half(second).loss(steps, "stream", schedule.plan, images.piece) for second in (False, True)]
    found = _search("gradient", *losses, schedule.n_factors, images)
    values = {"factors": found.factors, "before": found.before, "after": found.after}
    return Fit({"knots": knots, "T": {str(last): values}}, found.passes)


FITS = {
    "spectrum": _fit_factors,
    "step_size": _fit_step_size,
    "decimamba": _fit_decimamba,
    "longmamba": _fit_longmamba,
    "normalise_state": _fit_normalise_state,
    "schedule": _fit_schedule,
}

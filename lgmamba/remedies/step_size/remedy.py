"""Scaling of step sizes: every dt is multiplied after softplus, which changes decay and write strength together.

MambaExtend calibrates one factor for each layer, or, in its passkey retrieval, for each channel; L0 / T for all of them is the
analogue of position interpolation, and (L0 / t)^p its causal form. `closed_form` finds factors for each layer, `norm_step_sizes`
for each channel, without a search.
Scaling before softplus would be another, non-linear operation. Glossary: `lgmamba.remedies`; D channels.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Factor, Hook
from lgmamba.model.reading import AnyReadable, Sizes
from lgmamba.model.runner import MakeHook
from lgmamba.remedies.base import Schedule, constant_schedule, power_schedule, steps_of
from lgmamba.remedies.calibration import Calibrated, CalibrationSet, search
from lgmamba.remedies.factors import LengthFactors, by_layer, calibrate_factors, given_or_found
from lgmamba.remedies.longmamba.filters import StepSizeRecorder
from lgmamba.remedies.remedy import Kind, Parts
from lgmamba.remedies.step_size.config import StepSizeConfig

Phase = Literal["slowed", "kept"]


def scale_step_sizes(
    schedule: Schedule | Sequence[Schedule] | None = None,
    per_layer: Sequence[float | Tensor] | None = None,
    phase: Phase = "slowed",
) -> Hook:
    """dt <- s_layer s(t) dt.

    Args:
        schedule: factors by step, (L,) or (L, D), one schedule for all layers or one for each; None for 1.
        per_layer: one entry for each layer, a number or (D,); None for 1. Calibrated for one length: use them in prefix mode.
        phase: whether phases that a step turns are slowed like the rest, or kept.
    """

    def hook(call: Call) -> Call:
        if schedule is not None:
            s = (schedule if callable(schedule) else schedule[call.layer])(steps_of(call))
            call = slowed(call, s.reshape(len(s), -1), phase)
        return call if per_layer is None else slowed(call, per_layer[call.layer], phase)

    return hook


def slowed(call: Call, s: Factor, phase: Phase) -> Call:
    """Time runs s times as fast; phases too, or as ever."""
    return call.slow(s) if phase == "slowed" else call.slow_rates(s)


def norm_step_sizes(budgets: Sequence[Tensor], totals: Sequence[Tensor] | None = None, phase: Phase = "slowed") -> Hook:
    """dt_d <- dt_d Q_d / S_d(T): in every channel the cumulative step of the whole sequence becomes that of the training length.

    Prefix mode, for T > L0.

    Args:
        budgets: Q (D,) for each layer, the mean cumulative step over L0, from `cumulative_steps`.
        totals: S(T) (D,) for each layer, its mean over calibration sequences of length T; None for that of the sequence itself,
            which must then be read in one piece.
        phase: as of `scale_step_sizes`.
    Raises:
        ValueError: when called, if totals are None and the sequence is not read in one piece.
    """

    def hook(call: Call) -> Call:
        if totals is None and call.t0:
            raise ValueError(f"the sum over the sequence needs it in one piece; this piece starts after step {call.t0}")
        score = call.score()
        total = score.sum(1, keepdim=True) if totals is None else totals[call.layer].to(score)
        return slowed(call, budgets[call.layer].to(score) / total, phase)

    return hook


def cumulative_steps(step_sizes: dict[int, list[Tensor]], T: int) -> list[Tensor]:
    """Mean cumulative step (D,) of each layer over T steps, from pieces (B, L, D) recorded of sequences of length T."""
    pieces = [step_sizes[layer] for layer in sorted(step_sizes)]
    return [
        T * sum(dt.sum((0, 1)) for dt in layer) / sum(dt.shape[0] * dt.shape[1] for dt in layer) for layer in pieces
    ]


def factor_hooks(entry: StepSizeConfig, factors: LengthFactors, config: Sizes) -> MakeHook:
    """Scale by factors of the length T, constant in a pass; in stream mode by those of every step t."""

    def of_layers(factors: Tensor) -> list[Tensor]:
        return by_layer(factors, entry.scope, config)

    schedules = [lambda t, n=n: of_layers(factors.at_each(t))[n] for n in range(config.n_layer)]
    return lambda T: (
        scale_step_sizes(schedules, phase=entry.phase)
        if T is None
        else scale_step_sizes(per_layer=of_layers(factors.at(T)), phase=entry.phase)
    )


def _power(entry: StepSizeConfig, factors: Tensor, L0: int) -> Hook:
    """dt (L0 / t)^(p f), f one of `factors` (M,) for each layer."""
    return scale_step_sizes([power_schedule(L0, entry.power * f) for f in factors], phase=entry.phase)


def _norm_hook(entry: StepSizeConfig, values: Any, T: int) -> Hook:
    budgets, totals = (
        [torch.tensor(v, dtype=torch.float64) for v in found]
        for found in (values["budgets"], values["T"][str(T)]["totals"])
    )
    return norm_step_sizes(budgets, totals, entry.phase)


def build(entry: StepSizeConfig, values: Any, model: AnyReadable, last: int) -> Parts:
    L0 = model.L0
    if entry.form in ("layer", "channel"):
        return {"make_hook": given_or_found(entry, values, model, last, factor_hooks)}
    if entry.form == "norm":
        return {"make_hook": lambda T: None if T <= L0 else _norm_hook(entry, values, T)}
    if entry.form == "uniform":
        return {"make_hook": lambda T: scale_step_sizes(constant_schedule(L0, T, entry.power), phase=entry.phase)}
    if values is None:
        return {"make_hook": lambda T: scale_step_sizes(power_schedule(L0, entry.power), phase=entry.phase)}
    (found,) = values["T"].values()
    return {"make_hook": lambda T: _power(entry, torch.tensor(found["factors"], dtype=torch.float64), L0)}


def calibrate(entry: StepSizeConfig, images: CalibrationSet) -> Calibrated:
    if entry.form == "norm":
        return _calibrate_norm(images)
    return _calibrate_power(entry, images) if entry.form == "power" else calibrate_factors(entry, images, factor_hooks)


def _calibrate_power(entry: StepSizeConfig, images: CalibrationSet) -> Calibrated:
    """Under "T" at the longest length: a factor on p for each layer, for the mean error over lengths of one pass."""

    def make_hook(factors: Tensor) -> Hook:
        return _power(entry, factors, images.model.L0)

    losses = [images.half(second).loss(images.lengths, "stream", make_hook, images.chunk) for second in (False, True)]
    found = search(entry.calibrate, *losses, images.model.config.n_layer, images)
    values = {"factors": found.factors, "before": found.before, "after": found.after}
    return Calibrated({"T": {str(images.lengths[-1]): values}}, found.n_forward)


@torch.no_grad()
def _calibrate_norm(images: CalibrationSet) -> Calibrated:
    """Mean cumulative step of each layer and channel over L0 steps, and under "T" over each longer length reported."""

    def sums(T: int) -> list[list[float]]:
        recorder = StepSizeRecorder(rates=False)
        images.record(recorder, T)
        return [v.tolist() for v in cumulative_steps(recorder.step_sizes, T)]

    found = {str(T): {"totals": sums(T)} for T in images.steps if T > images.model.L0}
    return Calibrated({"budgets": sums(images.model.L0), "T": found}, 2 * (1 + len(found)))


KIND = Kind(build, calibrate)

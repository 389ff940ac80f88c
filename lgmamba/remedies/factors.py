"""Factors that depend on the length read: given at some lengths, in between ln s is linear in ln T.

Glossary: `lgmamba.remedies`; M factors, K lengths at which they are given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lgmamba.mixers.contract import Hook
from lgmamba.model.reading import AnyReadable, Sizes
from lgmamba.model.runner import MakeHook
from lgmamba.remedies.calibration import Calibrated, CalibrationSet, search
from lgmamba.remedies.closed_form import StateRecorder, closed_form_factors
from lgmamba.remedies.entry import RemedyEntry
from lgmamba.remedies.search import Calibration, Objective, within

Scope = Literal["global", "layer", "channel", "mode", "channel_mode"]


@dataclass(frozen=True)
class LengthFactors:
    """Factors s(T): 1 up to L0, those given at some longer lengths, and those of the longest beyond it.

    Attributes:
        L0: up to it all factors are 1.
        lengths: K lengths above L0, ascending.
        logs: (K, M) ln of the factors given; gradients flow to them.
    """

    L0: int
    lengths: Sequence[int]
    logs: Tensor

    def at(self, T: float) -> Tensor:
        """The factors for length T, (M,)."""
        return self.at_each(torch.tensor([float(T)], dtype=torch.float64))[0]

    def at_each(self, T: Tensor) -> Tensor:
        """The factors for lengths (n,): (n, M), on their device."""
        logs = torch.cat([torch.zeros_like(self.logs[:1]), self.logs]).to(T.device)
        known = torch.tensor([self.L0, *self.lengths], dtype=torch.float64, device=T.device).log()
        where = T.double().log().clamp(known[0], known[-1])
        upper = torch.searchsorted(known, where).clamp(min=1)
        share = (where - known[upper - 1]) / (known[upper] - known[upper - 1])
        return torch.lerp(logs[upper - 1], logs[upper], share[:, None].to(logs.dtype)).exp()


def length_factors(L0: int, values: dict[str, Any]) -> LengthFactors:
    """From the JSON values of a calibration: under "T", length -> {"factors": M numbers above 0}."""
    given = sorted((int(T), found["factors"]) for T, found in values["T"].items())
    logs = torch.tensor([factors for _, factors in given], dtype=torch.float64).log()
    return LengthFactors(L0, [T for T, _ in given], logs)


def n_factors(scope: Scope, config: Sizes) -> int:
    """M of a scope."""
    D, N = config.channels, config.modes
    of_layer = {"layer": 1, "channel": D, "mode": N, "channel_mode": D * N}
    return 1 if scope == "global" else config.n_layer * of_layer[scope]


def by_layer(factors: Tensor, scope: Scope, config: Sizes) -> list[Tensor]:
    """Factors (..., M) as one entry for each layer: (...), (..., D) by channel, (..., N) by mode, or (..., D, N)."""
    if scope == "global":
        return [factors[..., 0]] * config.n_layer
    of_layer = {"layer": (), "channel": (-1,), "mode": (-1,), "channel_mode": (-1, config.modes)}[scope]
    return list(factors.unflatten(-1, (config.n_layer, *of_layer)).unbind(factors.ndim - 1))


MakeFactors = Callable[[Any, LengthFactors, Sizes], MakeHook]
"""Entry, factors of the length, sizes -> what makes the hooks that scale by them."""


def given_or_found(entry: RemedyEntry, values: Any, model: AnyReadable, last: int, make: MakeFactors) -> MakeHook:
    """With the factors that calibration found, or that of the entry, reached at the length `last`."""
    if values is None:
        values = {"T": {last: {"factors": [entry.factor] * n_factors(entry.scope, model.config)}}}
    return make(entry, length_factors(model.L0, values), model.config)


def calibrate_factors(entry: RemedyEntry, images: CalibrationSet, make: MakeFactors) -> Calibrated:
    """Under "T": length -> factors (M,), and the error before and after on the images held out.

    In prefix mode each length is a problem of its own. In stream mode one pass goes through all lengths, and what is lowered is
    their mean error, for all of their factors at once.
    """
    L0, lengths, config = images.model.L0, images.lengths, images.model.config
    M = n_factors(entry.scope, config)
    problems = [lengths] if entry.mode == "stream" else [[T] for T in lengths]
    recorder = recorded(images, L0) if "closed_form" in (entry.calibrate, entry.start) else None
    values, n_forward = {}, 0
    for steps in problems:

        def make_hook(factors: Tensor, steps: list[int] = steps) -> Hook:
            given = LengthFactors(L0, steps, factors.reshape(len(steps), M).log())
            return make(entry, given, config)(None if entry.mode == "stream" else steps[-1])

        losses = [images.half(second).loss(steps, entry.mode, make_hook, images.chunk) for second in (False, True)]
        start = None if recorder is None else _closed_form(entry, recorder, L0, steps)
        if entry.calibrate == "closed_form":
            found = _as_it_is(within(start, entry.bounds), losses[1])
        else:
            found = search(entry.calibrate, *losses, len(steps) * M, images, start, entry.bounds)
        for T, factors in zip(steps, found.theta.exp().reshape(len(steps), M).tolist(), strict=True):
            values[str(T)] = {"factors": factors, "before": found.before, "after": found.after}
        n_forward += found.n_forward
    return Calibrated({"T": values}, n_forward + (2 if recorder is not None else 0))


@torch.no_grad()
def _closed_form(entry: RemedyEntry, recorder: StateRecorder, L0: int, steps: list[int]) -> Tensor:
    """ln of the factors for each of some lengths, from recorded states: (K n_layer,)."""
    factors = [s for T in steps for s in closed_form_factors(recorder, entry.kind, L0, T)]
    return torch.tensor(factors, dtype=torch.float64).log()


@torch.no_grad()
def _as_it_is(theta: Tensor, held_out: Objective) -> Calibration:
    """No search: the error before and after is only looked at."""
    before, after = (float(held_out(v)) for v in (torch.zeros_like(theta), theta))
    return Calibration(theta, before, after, 0)


def recorded(images: CalibrationSet, T: int) -> StateRecorder:
    """What the layers do over the first T steps of all calibration samples."""
    recorder = StateRecorder()
    images.record(recorder, T)
    return recorder

"""Factors without a search: what makes the mean state of a long sequence as large as that of the training length.

Patches in random order are, given the image, close to independent, so that the mean state of a mode after t steps is
E[dt B x] F(t) with F(t) = 1 + rho + ... + rho^(t - 1) and rho = E[exp(dt A)]. For each layer one factor s is sought such that

    spectrum (mult)   ln F_s(T)   is near ln F_1(L0)
    step sizes        ln s F_s(T) is near ln F_1(L0)      (what is written shrinks too)

with rho_s = E[exp(s dt A)], the squared distance averaged over modes by their share of the layer's state energy. A small penalty on
(ln s)^2 leaves layers alone that do not care. A start for calibration, or a remedy of its own.
Glossary: `lgmamba.remedies`; D channels, N modes, n recorded steps.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call

PENALTY = 1e-3
"""Weight of (ln s)^2 beside the squared distance of logarithms."""
MOST_STEPS = 1024
"""Recorded steps of a layer that the mean decays are taken over, at most: their error is a few per cent."""
LN_S = 6.0
"""ln s is sought from -LN_S to LN_S."""


class StateRecorder:
    """A hook that changes nothing and keeps every layer's step sizes, spectrum and state energy: the calibration pass.

    Attributes:
        step_sizes: layer -> dt of each piece, (B, L, D).
        A: layer -> (D, N).
        energy: layer -> (D, N) mean square of the state at the end of the last piece.
    """

    def __init__(self) -> None:
        self.step_sizes: dict[int, list[Tensor]] = {}
        self.A: dict[int, Tensor] = {}
        self.energy: dict[int, Tensor] = {}

    def __call__(self, call: Call) -> Call:
        self.step_sizes.setdefault(call.layer, []).append(call.score().detach())
        self.A[call.layer] = -call.rates().detach()

        def look(h: Tensor) -> Tensor:
            self.energy[call.layer] = h.detach().abs().square().mean(0)
            return h

        return call.then(look)


def closed_form_factors(
    recorder: StateRecorder, form: Literal["spectrum", "step_size"], L0: int, T: int
) -> list[float]:
    """s for each layer, from a recorded pass over sequences of length L0; all 1 for T <= L0.

    Raises:
        ValueError: the form is unknown.
    """
    if form not in ("spectrum", "step_size"):
        raise ValueError(f"form={form!r}; expected 'spectrum' or 'step_size'")
    if T <= L0:
        return [1.0] * len(recorder.A)
    return [_factor(recorder, layer, form, L0, T) for layer in sorted(recorder.A)]


def series(rho: Tensor, t: int) -> Tensor:
    """F(t) = 1 + rho + ... + rho^(t - 1), also where rho is close to 1."""
    log = rho.log()
    return torch.where(rho < 1, torch.expm1(t * log) / torch.expm1(log), torch.full_like(rho, float(t)))


def _factor(recorder: StateRecorder, layer: int, form: str, L0: int, T: int) -> float:
    steps = torch.cat([dt.flatten(0, 1) for dt in recorder.step_sizes[layer]]).double()
    steps = steps[:: -(-len(steps) // MOST_STEPS)]  # (n, D)
    A, energy = recorder.A[layer].double(), recorder.energy[layer].double()
    weight = energy / energy.sum()
    target = series(_decay(steps, A), L0).log()

    def distance(ln_s: float) -> float:
        reached = series(_decay(steps, math.exp(ln_s) * A), T).log() + (ln_s if form == "step_size" else 0.0)
        return float((weight * (reached - target).square()).sum()) + PENALTY * ln_s**2

    return math.exp(_minimum(distance, -LN_S, LN_S))


def _decay(steps: Tensor, A: Tensor) -> Tensor:
    """rho (D, N), mode by mode: (n, D, N) would be large."""
    return torch.stack([torch.exp(steps * A[:, n]).mean(0) for n in range(A.shape[1])], dim=1)


def _minimum(f, low: float, high: float, points: int = 13, rounds: int = 4) -> float:
    """Where f is smallest: on a grid, then on finer ones about its smallest point."""
    for _ in range(rounds):
        width = (high - low) / (points - 1)
        best = min((low + i * width for i in range(points)), key=f)
        low, high = best - width, best + width
    return best

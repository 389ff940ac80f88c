"""Gains that follow t, calibrated for all lengths at once: one state, read in one stream. This project's own remedy.

In every layer l, for t > L0,

    step_size     dt <- s dt         one factor a layer
    modes         and, for every mode n,      B[n] <- w_n B[n],     C[n] <- r_n C[n]      what is written, what is read
    channels      and, for every channel d,   dt[d] <- s_d dt[d],   x[d] <- g_d x[d]      (x also on its way past the state)

with the logarithm of each factor piece-wise linear in ln(t / L0) between knots, 0 at L0 and constant beyond the last knot. What the
published remedies set by a rule (dt L0 / t, an insertion gain) or calibrate for one length is here found by back-propagation
through the frozen model (`lgmamba.remedies.search.loss_at_steps`, at several steps of one pass), so that it is one remedy for
every length, and causal.

    temperature   what is read times ln t / ln L0 for t > L0, or of a pass to a known T by that of T; nothing is calibrated. With L0 = 1
                  it is ln t / ln 2, since ln 1 is 0

Of attention this multiplies the products of queries and keys, so that weights stay as sharp among t steps as they were among L0: scaled-log
attention (Chiang & Cholak 2022, arXiv:2202.12172), with its logarithm in units of that of L0, so that it changes nothing up to there.
Glossary: `lgmamba.remedies`; K knots, D channels, N modes, M factors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Hook
from lgmamba.model.reading import AnyReadable
from lgmamba.remedies.base import steps_of
from lgmamba.remedies.calibration import Calibrated, CalibrationSet, search
from lgmamba.remedies.remedy import Kind, Parts
from lgmamba.remedies.schedule.config import ScheduleConfig

Gains = Literal["step_size", "modes", "channels"]
GAINS = ("step_size", "modes", "channels")


@dataclass(frozen=True)
class GainSchedule:
    """What is scheduled, for a model of some size.

    Attributes:
        L0: up to it nothing is changed.
        knots: K lengths in units of L0, ascending, above 1.
        gains: which factors there are, see above; each includes those before it.
        n_layer, channels, modes: of the model.
    Raises:
        ValueError: knots or gains out of range.
    """

    L0: int
    knots: Sequence[float]
    gains: Gains
    n_layer: int
    channels: int
    modes: int

    def __post_init__(self):
        if list(self.knots) != sorted(set(self.knots)) or not self.knots or self.knots[0] <= 1:
            raise ValueError(f"knots must ascend from above 1; got {list(self.knots)}")
        if self.gains not in GAINS:
            raise ValueError(f"gains={self.gains!r}; expected one of {', '.join(GAINS)}")

    @classmethod
    def of(cls, model: AnyReadable, knots: Sequence[float], gains: Gains) -> "GainSchedule":
        """For a model as it was trained."""
        return cls(model.L0, knots, gains, model.config.n_layer, model.config.channels, model.config.modes)

    @property
    def per_knot(self) -> int:
        """Factors of one layer at one knot."""
        N, D = self.modes, self.channels
        return {"step_size": 1, "modes": 1 + 2 * N, "channels": 1 + 2 * N + 2 * D}[self.gains]

    @property
    def n_factors(self) -> int:
        """M."""
        return self.n_layer * len(self.knots) * self.per_knot

    def hook(self, factors: Tensor) -> Hook:
        """The hook of factors (M,), each above 0, by layer, then knot; gradients flow to them."""
        ln = factors.double().log().reshape(self.n_layer, len(self.knots), self.per_knot)

        def hook(call: Call) -> Call:
            weights = self._weights(steps_of(call))  # (L, K)
            s = (weights @ ln[call.layer].to(weights.device)).exp().to(call.like)  # (L, per_knot)
            call = call.slow(s[:, :1])
            if self.gains == "step_size":
                return call
            N, D = self.modes, self.channels
            write, read, rest = s[:, 1:].split([N, N, s.shape[1] - 1 - 2 * N], dim=1)
            call = call.write(write).read(read)
            if self.gains == "modes":
                return call
            step, enter = rest.split(D, dim=1)
            return call.slow(step).enter(enter)

        return hook

    def _weights(self, t: Tensor) -> Tensor:
        """Weight of each knot at steps (L,): (L, K), rows sum to 1 from the first knot on and to 0 up to L0."""
        known = torch.tensor([0.0, *(math.log(k) for k in self.knots)], device=t.device, dtype=torch.float64)
        where = (t.double() / self.L0).log().clamp(known[0], known[-1])
        upper = torch.searchsorted(known, where).clamp(min=1)
        share = (where - known[upper - 1]) / (known[upper] - known[upper - 1])
        weights = torch.zeros(len(t), len(known), device=t.device, dtype=torch.float64)
        weights.scatter_(1, upper[:, None], share[:, None])
        weights.scatter_(1, upper[:, None] - 1, 1 - share[:, None])
        return weights[:, 1:]


def temperature(L0: int, T: int | None = None) -> Hook:
    """What step t reads times ln t / ln L0, at least 1; given T, by the factor of T at every step."""
    base = math.log(max(2, L0))  # ln 1 is 0; docs/remedies.md says what is done then

    def hook(call: Call) -> Call:
        t = steps_of(call) if T is None else torch.full_like(steps_of(call), T)
        return call.read((t.log() / base).clamp(min=1)[:, None].to(call.like))

    return hook


def build(entry: ScheduleConfig, values: Any, model: AnyReadable, last: int) -> Parts:
    if entry.gains == "temperature":
        return {"make_hook": lambda T: temperature(model.L0, T)}
    (found,) = values["T"].values()
    device = model.device
    hook = GainSchedule.of(model, values["knots"], entry.gains).hook(torch.tensor(found["factors"], device=device))
    return {"make_hook": lambda T: hook}


def calibrate(entry: ScheduleConfig, images: CalibrationSet) -> Calibrated:
    """Under "T" at the longest length: factors at the knots, the lengths calibrated for; for the mean error at those and all reported."""
    assert entry.gains != "temperature"  # of which nothing is calibrated
    L0, last = images.model.L0, images.lengths[-1]
    knots = [T / L0 for T in images.lengths]
    schedule = GainSchedule.of(images.model, knots, entry.gains)
    steps = sorted({*images.lengths, *(T for T in images.steps if L0 < T <= last)})
    loss, held_out = (
        images.half(second).loss(steps, "stream", schedule.hook, images.chunk) for second in (False, True)
    )
    found = search("gradient", loss, held_out, schedule.n_factors, images)
    values = {"factors": found.factors, "before": found.before, "after": found.after}
    return Calibrated({"knots": knots, "T": {str(last): values}}, found.n_forward)


KIND = Kind(build, calibrate)

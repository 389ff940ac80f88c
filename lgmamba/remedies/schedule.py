"""Gains that follow t, calibrated for all lengths at once: one state, read in one stream. This project's own remedy.

In every layer l, for t > L0,

    dt_t <- s_l(t) dt_t          and in the wider form, for every mode n,   B_t[n] <- w_ln(t) B_t[n],   C_t[n] <- r_ln(t) C_t[n]

with ln s, ln w and ln r piece-wise linear in ln(t / L0) between knots, 0 at L0 and constant beyond the last knot. What the published
remedies set by a rule (dt L0 / t, m_i, an output gain) or calibrate for one length is here found by back-propagation through
the frozen model, from the images drawn at several steps of one pass, so that it is one remedy for every length and causal.
Glossary: `lgmamba.remedies`; K knots, D channels, N modes, M factors.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lgmamba.model import PatchMamba
from lgmamba.model.plan import Plan, ScanCall
from lgmamba.remedies.base import steps_of

Gains = Literal["step_size", "step_size_and_modes"]


@dataclass(frozen=True)
class GainSchedule:
    """What is scheduled, for a model of some size.

    Attributes:
        L0: up to it nothing is changed.
        knots: K lengths in units of L0, ascending, above 1.
        gains: step_size, one factor a layer; step_size_and_modes, besides one for each mode on what is written and what is read.
        n_layer, d_state: of the model.
    """

    L0: int
    knots: Sequence[float]
    gains: Gains
    n_layer: int
    d_state: int

    def __post_init__(self):
        if list(self.knots) != sorted(set(self.knots)) or not self.knots or self.knots[0] <= 1:
            raise ValueError(f"knots must ascend from above 1; got {list(self.knots)}")
        if self.gains not in ("step_size", "step_size_and_modes"):
            raise ValueError(f"gains={self.gains!r}; expected 'step_size' or 'step_size_and_modes'")

    @property
    def per_knot(self) -> int:
        """Factors of one layer at one knot."""
        return 1 if self.gains == "step_size" else 1 + 2 * self.d_state

    @property
    def n_factors(self) -> int:
        """M."""
        return self.n_layer * len(self.knots) * self.per_knot

    def plan(self, factors: Tensor) -> Plan:
        """The plan of factors (M,), each above 0, by layer, then knot; gradients flow to them."""
        ln = factors.log().reshape(self.n_layer, len(self.knots), self.per_knot)

        def plan(call: ScanCall) -> ScanCall:
            weights = self._weights(steps_of(call))  # (L, K)
            s = (weights.to(ln) @ ln[call.layer].to(weights.device)).exp().to(call.dt)  # (L, per_knot)
            call = replace(call, dt=call.dt * s[:, :1])
            if self.gains == "step_size":
                return call
            write, read = s[:, 1:].to(call.Bmat.dtype).split(self.d_state, dim=1)
            return replace(call, Bmat=call.Bmat * write, Cmat=call.Cmat * read)

        return plan

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


def stream_loss(
    model: PatchMamba,
    patches: Tensor,
    cells: Tensor,
    targets: Tensor,
    steps: Sequence[int],
    make_plan: Callable[[Tensor], Plan],
    told: Tensor | None = None,
) -> Callable[[Tensor], Tensor]:
    """Mean over steps of the logarithm of the mean squared error, as a function of theta = ln factors (M,): an objective of
    `lgmamba.remedies.calibrate`. Logarithms, so that all lengths weigh alike; 0.1 is 0.43 dB.

    Args:
        patches, cells: (B, T, K) and (B, T), whole sequences.
        targets: (B, C, H, W) in [0, 1].
        steps: steps t <= T looked at.
        make_plan: factors (M,) -> plan.
        told: (B,) length told to a length-adaptive model, L0 in a stream.
    """
    at = torch.tensor(steps, device=patches.device) - 1

    def loss(theta: Tensor) -> Tensor:
        plan = make_plan(theta.exp().to(patches.device, patches.dtype))
        outputs, _ = model.encode(patches, cells, told=told, plan=plan, want_state=False)
        errors = (model.decode(outputs[:, at]) - targets[:, None]).square()
        return errors.mean((0, 2, 3, 4)).log().mean()

    return loss

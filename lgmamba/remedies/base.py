"""What remedies share: step numbers of a piece, factors that fall with length, one after the other. Glossary: `lgmamba.remedies`."""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from lgmamba.model.plan import Plan, ScanCall

Schedule = Callable[[Tensor], Tensor]
"""Steps t (L,) -> factors (L,)."""


def steps_of(call: ScanCall) -> Tensor:
    """Steps t of a piece, (L,) float64, from 1 at the start of the sequence."""
    L = call.dt.shape[1]
    return torch.arange(call.t0 + 1, call.t0 + L + 1, device=call.dt.device, dtype=torch.float64)


def chain(*plans: Plan) -> Plan:
    """Plans applied one after the other, from left to right."""
    return lambda call: reduce(lambda done, plan: plan(done), plans, call)


def power_schedule(L0: int, p: float) -> Schedule:
    """s(t) = min(1, L0 / t)^p: 1 up to L0 and falling beyond it. For stream mode.

    With p = 1 the cumulative step grows as 1 + ln(t / L0) beyond L0, and a state is a running average of what was read.
    """
    return lambda t: (L0 / t).clamp(max=1.0) ** p


def constant_schedule(L0: int, T: int, p: float) -> Schedule:
    """s = min(1, L0 / T)^p at every step of a sequence of length T. For prefix mode."""
    return lambda t: torch.full_like(t, min(1.0, L0 / T) ** p)

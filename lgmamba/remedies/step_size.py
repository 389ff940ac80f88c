"""Scaling of step sizes: every dt is multiplied after softplus, which changes decay and write strength together.

MambaExtend calibrates one factor for each layer; L0 / T for all of them is the analogue of position interpolation, and
(L0 / t)^p its causal form. Scaling before softplus would be another, non-linear operation. Glossary: `lgmamba.remedies`.
"""

from collections.abc import Sequence
from dataclasses import replace

from lgmamba.model.plan import Plan, ScanCall
from lgmamba.remedies.base import Schedule, steps_of


def scale_step_sizes(schedule: Schedule | None = None, per_layer: Sequence[float] | None = None) -> Plan:
    """dt <- s_layer s(t) dt.

    Args:
        schedule: factors by step; None for 1.
        per_layer: one factor for each layer; None for 1. Calibrated for one length: use them in prefix mode.
    """

    def plan(call: ScanCall) -> ScanCall:
        dt = call.dt
        if schedule is not None:
            dt = dt * schedule(steps_of(call)).to(dt.dtype)[:, None]
        if per_layer is not None:
            dt = dt * per_layer[call.layer]
        return replace(call, dt=dt)

    return plan


def freeze(L0: int) -> Plan:
    """dt <- 0 for t > L0: the state keeps what it held at L0. A control: nothing new is learned about the image."""

    def plan(call: ScanCall) -> ScanCall:
        return replace(call, dt=call.dt * (steps_of(call) <= L0).to(call.dt.dtype)[:, None])

    return plan

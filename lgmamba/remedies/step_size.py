"""Scaling of step sizes: every dt is multiplied after softplus, which changes decay and write strength together.

MambaExtend calibrates one factor for each layer, or, in its passkey retrieval, for each channel; L0 / T for all of them is the
analogue of position interpolation, and (L0 / t)^p its causal form. `closed_form` finds factors for each layer, `norm_step_sizes`
for each channel, without a search.
Scaling before softplus would be another, non-linear operation. Glossary: `lgmamba.remedies`; D channels.
"""

from collections.abc import Sequence

from torch import Tensor

from lgmamba.mixers.contract import Call, Hook
from lgmamba.remedies.base import Schedule, steps_of


def scale_step_sizes(
    schedule: Schedule | Sequence[Schedule] | None = None, per_layer: Sequence[float | Tensor] | None = None
) -> Hook:
    """dt <- s_layer s(t) dt.

    Args:
        schedule: factors by step, (L,) or (L, D), one schedule for all layers or one for each; None for 1.
        per_layer: one entry for each layer, a number or (D,); None for 1. Calibrated for one length: use them in prefix mode.
    """

    def plan(call: Call) -> Call:
        if schedule is not None:
            s = (schedule if callable(schedule) else schedule[call.layer])(steps_of(call))
            call = call.slow(s.reshape(len(s), -1))
        return call if per_layer is None else call.slow(per_layer[call.layer])

    return plan


def norm_step_sizes(budgets: Sequence[Tensor], totals: Sequence[Tensor] | None = None) -> Hook:
    """dt_d <- dt_d Q_d / S_d(T): in every channel the cumulative step of the whole sequence becomes that of the training length.

    Prefix mode, for T > L0.

    Args:
        budgets: Q (D,) for each layer, the mean cumulative step over L0, from `cumulative_steps`.
        totals: S(T) (D,) for each layer, its mean over calibration sequences of length T; None for that of the sequence itself,
            which must then be read in one piece.
    Raises:
        ValueError: when called, if totals are None and the sequence is not read in one piece.
    """

    def plan(call: Call) -> Call:
        if totals is None and call.t0:
            raise ValueError(f"the sum over the sequence needs it in one piece; this piece starts after step {call.t0}")
        score = call.score()
        total = score.sum(1, keepdim=True) if totals is None else totals[call.layer].to(score)
        return call.slow(budgets[call.layer].to(score) / total)

    return plan


def cumulative_steps(step_sizes: dict[int, list[Tensor]], T: int) -> list[Tensor]:
    """Mean cumulative step (D,) of each layer over T steps, from pieces (B, L, D) recorded of sequences of length T."""
    pieces = [step_sizes[layer] for layer in sorted(step_sizes)]
    return [
        T * sum(dt.sum((0, 1)) for dt in layer) / sum(dt.shape[0] * dt.shape[1] for dt in layer) for layer in pieces
    ]


def freeze(L0: int) -> Hook:
    """dt <- 0 for t > L0: the state keeps what it held at L0. A control: nothing new is learned about the image."""

    def plan(call: Call) -> Call:
        return call.mask((steps_of(call) <= L0)[:, None])

    return plan

"""Cumulative step size, what survives of a write, and horizons. All in float64: differences of long sums need it.

S_d(t) = sum of the scores of channel d (step sizes) up to step t. A write of step j has decayed to exp(-R_dn (S_d(t) - S_d(j))) at
step t, with R the rates of decay. Glossary: `lgmamba.probe`;
B samples, L steps, D channels, N modes.
"""

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call


def cumulative_steps(call: Call) -> Tensor:
    """S(1) .. S(L) of a whole sequence: (B, L, D) float64."""
    return call.score().double().cumsum(1)


def survival(total: Tensor, rates: Tensor, t: int) -> Tensor:
    """What is left at step t of a state before the first step, exp(-R S(t)): (B, D, N)."""
    return torch.exp(-rates.double() * total[:, t - 1, :, None])


def horizons(total: Tensor, rates: Tensor, t: int) -> Tensor:
    """Steps of the e-fold horizon at step t: the smallest w with R (S(t) - S(t - w)) >= 1, S(0) = 0.

    Args:
        total: (B, L, D) cumulative steps.
        rates: R (D, N).
        t: step, from 1.
    Returns:
        (B, D, N) float64; infinite where t steps are too few.
    """
    B, _, D = total.shape
    before = torch.cat([total.new_zeros(B, 1, D), total[:, :t]], dim=1).transpose(1, 2).contiguous()  # S(0) .. S(t)
    wanted = before[..., -1:] - 1 / rates.double()  # (B, D, N)
    last = torch.searchsorted(before, wanted.contiguous(), right=True) - 1  # largest k with S(k) <= wanted
    return torch.where(last >= 0, (t - last).double(), torch.inf)

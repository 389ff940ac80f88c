"""By how much the decays of a spectrum fall with the step: the exponents of PoST (Cao 2026, arXiv:2604.07658).

Of n rates, slowest first, with c_k = ln(rate_k / rate_0),

    alpha_k = (n - 1 - k) / (n - 1) + (c_k - k c_(n-1) / (n - 1)) / ln L,   within [0, 1]                (theorem 4.5)

so that with rate_k t^(-alpha_k) time scales that are spread evenly on a log scale from 1 to L stay spread so from 1 to t: the slowest
follows t, the fastest stays. The second term is 0 where they are spread evenly. Glossary: `lgmamba.mixers`.
"""

import math

import torch
from torch import Tensor


def exponents(rates: Tensor, L: int) -> Tensor:
    """alpha (..., n) of rates (..., n) > 0 that ascend along the last axis; of a single rate 0.

    Args:
        L: training length, steps.
    """
    n = rates.shape[-1]
    if n == 1:
        return torch.zeros_like(rates)
    k = torch.arange(n, device=rates.device, dtype=rates.dtype)
    c = (rates / rates[..., :1]).log()
    uneven = (c - k / (n - 1) * c[..., -1:]) / math.log(max(L, 2))
    return ((n - 1 - k) / (n - 1) + uneven).clamp(0, 1)


def spectrum_exponents(rates: Tensor, L: int) -> Tensor:
    """alpha (channels, modes) of the rates of a layer, in any order.

    The spectrum is that of the modes of a channel, where they differ; else, as in Mamba-2, that of the channels, where equal rates
    (the channels of a head) count once.
    """
    if bool((rates == rates[:, :1]).all()):
        distinct, which = rates[:, 0].unique(return_inverse=True)  # ascending
        return exponents(distinct, L)[which][:, None].expand_as(rates)
    ordered, position = rates.sort(dim=1, stable=True)
    return torch.empty_like(rates).scatter(1, position, exponents(ordered, L))

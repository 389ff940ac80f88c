"""Holding the state down (Stuffed Mamba, arXiv:2410.07145): forget more, write less, or clip. Glossary: `lgmamba.remedies`."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lgmamba.model.plan import Plan, ScanCall

LARGEST_EXPONENT = 60.0
"""Gains inside one piece stay below exp of this, far from the end of float32."""


def retain_and_insert(retention: float, insertion: float = 1.0) -> Plan:
    """h_t = m_r exp(dt_t A) h_{t-1} + m_i dt_t B_t x_t.

    The extra decay is exact and costs nothing: with g_t = h_t m_r^(-t) the recurrence is the usual one on inputs times
    m_r^(-t), read with m_r^t. Steps are counted inside the piece, so gains stay bounded; the state is carried as h.

    Args:
        retention: m_r in (0, 1]; 1 / (1 - m_r) is the horizon that it imposes, in steps.
        insertion: m_i > 0.
    Raises:
        ValueError: a factor out of range; at the first piece, if it is too long for its gains.
    """
    if not 0 < retention <= 1 or insertion <= 0:
        raise ValueError(f"0 < retention <= 1 and insertion > 0; got {retention} and {insertion}")

    def plan(call: ScanCall) -> ScanCall:
        L = call.dt.shape[1]
        rate = -math.log(retention)
        if L * rate > LARGEST_EXPONENT:
            raise ValueError(
                f"retention={retention} over a piece of {L} steps overflows; read in pieces of at most {int(LARGEST_EXPONENT / rate)}"
            )
        steps = torch.arange(1, L + 1, device=call.dt.device, dtype=torch.float64)[:, None]
        write = insertion * torch.exp(rate * steps).to(call.Bmat.dtype)
        read = torch.exp(-rate * steps).to(call.Cmat.dtype)
        after, last = call.post_state, retention**L

        def post_state(h: Tensor) -> Tensor:
            h = h * last
            return after(h) if after else h

        return replace(call, Bmat=call.Bmat * write, Cmat=call.Cmat * read, post_state=post_state)

    return plan


def normalise_state(largest: Sequence[float]) -> Plan:
    """At the end of every piece, h <- h min(1, p / ||h||), the norm over all channels and modes of a layer.

    Reading in pieces of one step is the definition; longer pieces clip at their ends only.

    Args:
        largest: p for each layer; infinity for the identity.
    """

    def plan(call: ScanCall) -> ScanCall:
        p, before = largest[call.layer], call.post_state

        def post_state(h: Tensor) -> Tensor:
            h = before(h) if before else h
            norm = h.flatten(1).norm(dim=1)[:, None, None]
            return h * (p / norm.clamp(min=torch.finfo(h.dtype).tiny)).clamp(max=1.0)

        return replace(call, post_state=post_state)

    return plan

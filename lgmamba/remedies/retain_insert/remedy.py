"""Forgetting more and writing less (Stuffed Mamba, arXiv:2410.07145, method 1). Glossary: `lgmamba.remedies`."""

import math
from typing import Any

import torch

from lgmamba.mixers.contract import Call, Hook
from lgmamba.model.reading import AnyReadable
from lgmamba.remedies.base import cuts_every, piecewise
from lgmamba.remedies.remedy import Kind, Parts
from lgmamba.remedies.retain_insert.config import RetainInsertConfig

LARGEST_EXPONENT = 60.0
"""Gains inside one piece stay below exp of this, far from the end of float32."""


def horizon_retention(L0: int, c: float) -> float:
    """m_r = 1 - 1 / (c L0): the retention that forgets over c training lengths. Raises ValueError unless c L0 > 1."""
    if c * L0 <= 1:
        raise ValueError(f"a horizon of c L0 steps must be above 1; got c={c}, L0={L0}")
    return 1 - 1 / (c * L0)


def retain_and_insert(retention: float, insertion: float = 1.0, after: int = 0) -> Hook:
    """h_t = m_r exp(dt_t A) h_{t-1} + m_i dt_t B_t x_t, for t > after.

    The extra decay is exact and costs nothing: with g_t = h_t m_r^(-t) the recurrence is the usual one on inputs times
    m_r^(-t), read with m_r^t. Steps are counted inside pieces short enough for their gains, of one step where gates depend on the
    state; the state is carried as h.

    Args:
        retention: m_r in (0, 1]; 1 / (1 - m_r) is the horizon that it imposes, in steps, see `horizon_retention`.
        insertion: m_i > 0.
        after: L0 for the identity up to the training length.
    Raises:
        ValueError: a factor out of range.
    """
    if not 0 < retention <= 1 or insertion <= 0:
        raise ValueError(f"0 < retention <= 1 and insertion > 0; got {retention} and {insertion}")
    rate = -math.log(retention)
    longest = max(1, int(min(LARGEST_EXPONENT / rate, 2**31))) if rate > 0 else 2**31

    def hook(call: Call) -> Call:
        if call.t0 < after:
            return call
        L, like = call.shape[1], call.like
        steps = torch.arange(1, L + 1, device=like.device, dtype=torch.float64)[:, None]
        # float32 also where the projections are not: their gains span many powers of ten
        write = (insertion * torch.exp(rate * steps)).to(like.dtype)
        read = torch.exp(-rate * steps).to(like.dtype)
        return call.write(write).read(read).then(lambda h: h * retention**L, first=True)

    by_piece, by_step = (piecewise(cuts_every(n, after), hook) for n in (longest, 1))
    return lambda call: (by_piece if call.LINEAR else by_step)(call)


def build(entry: RetainInsertConfig, values: Any, model: AnyReadable, last: int) -> Parts:
    L0, retention = model.L0, horizon_retention(model.L0, entry.horizon)

    def make_hook(T: int | None) -> Hook | None:
        if T is None:
            return retain_and_insert(retention, entry.insertion, after=L0)
        return None if T <= L0 else retain_and_insert(retention, entry.insertion)

    return {"make_hook": make_hook}


KIND = Kind(build)

"""Holding the state down (Stuffed Mamba, arXiv:2410.07145): forget more, write less, or clip. Glossary: `lgmamba.remedies`."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Hook
from lgmamba.remedies.base import cuts_every, piecewise

LARGEST_EXPONENT = 60.0
"""Gains inside one piece stay below exp of this, far from the end of float32."""

Groups = Literal["layer", "channel"]


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

    def plan(call: Call) -> Call:
        if call.t0 < after:
            return call
        L, like = call.shape[1], call.like
        steps = torch.arange(1, L + 1, device=like.device, dtype=torch.float64)[:, None]
        # float32 also where the projections are not: their gains span many powers of ten
        write = (insertion * torch.exp(rate * steps)).to(like.dtype)
        read = torch.exp(-rate * steps).to(like.dtype)
        return call.write(write).read(read).then(lambda h: h * retention**L, first=True)

    by_piece, by_step = (piecewise(cuts_every(n, after), plan) for n in (longest, 1))
    return lambda call: (by_piece if call.LINEAR else by_step)(call)


def normalise_state(largest: Sequence[float | Tensor], every: int = 1, after: int = 0) -> Hook:
    """h <- h min(1, p / ||h||) after every `every`-th step t > after.

    every = 1 is the definition; clipping less often costs less. Steps are counted from the start of the sequence, so the result
    does not depend on the pieces in which it is read.

    Args:
        largest: p for each layer, from `StateNormRecorder`: a number, for the norm over all channels and modes of a layer, or
            (D,), for that of each channel over its modes. Infinity for the identity.
        every: steps between clippings.
        after: L0 for the identity up to the training length.
    """

    def plan(call: Call) -> Call:
        end = call.t0 + call.shape[1]
        if end % every or end <= after:
            return call
        p = largest[call.layer]

        def clip(h: Tensor) -> Tensor:
            if isinstance(p, Tensor):
                bound, norm = p.to(h)[:, None], _norms(h, "channel")[..., None]
            else:
                bound, norm = p, _norms(h, "layer")[:, None, None]
            return h * (bound / norm.clamp(min=torch.finfo(h.dtype).tiny)).clamp(max=1.0)

        return call.then(clip)

    return piecewise(cuts_every(every), plan)


class StateNormRecorder:
    """A plan that changes nothing and keeps the largest norm of each sequence's states: the calibration pass.

    Args:
        groups: layer, norms over all channels and modes; channel, of each channel over its modes.
        every: steps between two looks at the state.
    """

    def __init__(self, groups: Groups = "layer", every: int = 1) -> None:
        self.groups = groups
        self._largest: dict[int, list[Tensor]] = {}
        self._plan = piecewise(cuts_every(every), self._look)

    def __call__(self, call: Call) -> Call:
        return self._plan(call)

    def thresholds(self, quantile: float = 0.99) -> list[float | Tensor]:
        """p for each layer, as `normalise_state` takes it: that quantile over sequences."""
        found: list[float | Tensor] = []
        for layer in sorted(self._largest):
            p = torch.quantile(torch.cat(self._largest[layer]), quantile, dim=0)
            found.append(p if self.groups == "channel" else float(p))
        return found

    def _look(self, call: Call) -> Call:
        largest = self._largest.setdefault(call.layer, [])

        def look(h: Tensor) -> Tensor:
            norm = _norms(h.detach(), self.groups)
            if call.t0 == 0:  # new sequences
                largest.append(norm)
            else:
                largest[-1] = torch.maximum(largest[-1], norm)
            return h

        return call.then(look)


def _norms(h: Tensor, groups: Groups) -> Tensor:
    """(B, D, N) -> (B,) or (B, D)."""
    return h.norm(dim=2) if groups == "channel" else h.flatten(1).norm(dim=1)

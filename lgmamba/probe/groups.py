"""Which modes break a checkpoint: interventions on a group of modes beyond L0, as hooks, so that the model can be read with them.

    size    the group is read at the norm that it has at L0; what it holds goes on as it is. Is its size what hurts?
    clamp   the group forgets so much more that its expected size stays that at L0 (inflation 1). Does a window of L0 help?
    hold    the group keeps its state of L0. Does anything that it learns beyond L0 help, or hurt?

All of them act after L0 and every few steps from there on, and between pieces; what is written in between is as it is.
A group is a mask (D, N) for each layer. Glossary: `lgmamba.probe`; B samples, D channels, N modes.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Hook
from lgmamba.probe.dynamics import ModeMemory, series
from lgmamba.remedies.base import cuts_every, piecewise

Masks = Sequence[Tensor]
"""(D, N) bool for each layer."""


def group_norms(h: Tensor, mask: Tensor) -> Tensor:
    """Norm of a group's entries: (B, D, N) -> (B,)."""
    return (h * mask).flatten(1).norm(dim=1)


def size_at_L0(masks: Masks, norm: Sequence[Tensor], L0: int, every: int) -> Hook:
    """`size` above.

    Args:
        masks: the group.
        norm: () for each layer, mean over images of the group's norm at L0.
        every: steps between two looks at the state.
    """

    def hook(call: Call) -> Call:
        mask = masks[call.layer]
        if call.t0 < L0 or not mask.any():
            return call
        found = group_norms(call.h0, mask).clamp(min=torch.finfo(call.h0.dtype).tiny)
        read = torch.where(mask, call.h0 * (norm[call.layer] / found)[:, None, None], call.h0)
        left = torch.exp(-call.score().sum(1)[..., None] * call.rates())  # what is still there of h0 after the piece
        return replace(call, h0=read).then(lambda h: h + left * (call.h0 - read))

    return piecewise(cuts_every(every, L0), hook)


def clamp_inflation(masks: Masks, memory: Sequence[ModeMemory], L0: int, every: int) -> Hook:
    """`clamp` above: with E[h] = w F(L0) before a piece of c steps it is w F(L0 + c) after it, and is brought back.

    Args:
        memory: of each layer, from sequences of the training length.
        every: steps between two times that the group forgets.
    """

    def hook(call: Call) -> Call:
        mask = masks[call.layer]
        if call.t0 < L0 or not mask.any():
            return call
        rho = memory[call.layer].rho
        keep = torch.where(mask, series(rho, L0) / series(rho, L0 + call.shape[1]), 1.0).to(call.like.dtype)
        return call.then(lambda h: h * keep)

    return piecewise(cuts_every(every, L0), hook)


def hold_at_L0(masks: Masks, L0: int, every: int) -> Hook:
    """`hold` above, `every` so many steps. For one pass from the first step on: it remembers that pass's states at L0."""
    held: dict[int, Tensor] = {}

    def hook(call: Call) -> Call:
        mask = masks[call.layer]
        if call.t0 < L0 or not mask.any():
            return call
        if call.t0 == L0:
            held[call.layer] = call.h0
        return call.then(lambda h: torch.where(mask, held[call.layer], h))

    return piecewise(cuts_every(every, L0), hook)

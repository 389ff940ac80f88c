"""What remedies share: step numbers of a piece, factors that fall with length, one after the other, and cuts into pieces.

Glossary: `lgmamba.remedies`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Hook, Ordinary

Schedule = Callable[[Tensor], Tensor]
"""Steps t (L,) -> factors (L,), or (L, D) by channel."""
Cuts = Callable[[int, int], set[int]]
"""(t0, t1) -> steps t, t0 < t < t1, after which a piece that goes from step t0 + 1 to t1 is cut."""


def steps_of(call: Call) -> Tensor:
    """Steps t of a piece, (L,) float64, from 1 at the start of the sequence."""
    L = call.shape[1]
    return torch.arange(call.t0 + 1, call.t0 + L + 1, device=call.like.device, dtype=torch.float64)


def chain(*hooks: Hook) -> Hook:
    """Hooks applied one after the other, from left to right."""
    return lambda call: reduce(lambda done, hook: hook(done), hooks, call)


def power_schedule(L0: int, p: float) -> Schedule:
    """s(t) = min(1, L0 / t)^p: 1 up to L0 and falling beyond it. For stream mode.

    With p = 1 the cumulative step grows as 1 + ln(t / L0) beyond L0, and a state is a running average of what was read.
    """
    return lambda t: (L0 / t).clamp(max=1.0) ** p


def constant_schedule(L0: int, T: int, p: float) -> Schedule:
    """s = min(1, L0 / T)^p at every step of a sequence of length T. For prefix mode."""
    return lambda t: torch.full_like(t, min(1.0, L0 / T) ** p)


def cuts_at(*steps: int) -> Cuts:
    """Cuts after the given steps."""
    return lambda t0, t1: {t for t in steps if t0 < t < t1}


def cuts_every(n: int, after: int = 0) -> Cuts:
    """Cuts after the steps `after`, after + n, after + 2 n, ... (n >= 1)."""

    def cuts(t0: int, t1: int) -> set[int]:
        first = after + max(0, -(-(t0 + 1 - after) // n)) * n
        return set(range(first, t1, n))

    return cuts


def beyond(L0: int, hook: Hook) -> Hook:
    """A hook for the steps t > L0 only, in stream mode; h, and so what was written before, goes on as it is."""
    return piecewise(cuts_at(L0), lambda call: call if call.t0 < L0 else hook(call))


def follow_length(L0: int, block: int, make_hook: Callable[[float], Hook]) -> Hook:
    """Hooks made for a length, in stream mode: beyond L0 each block of steps has the hook of its middle step.

    Args:
        L0: up to it nothing is changed.
        block: steps of a block; factors that follow t are constant within one.
        make_hook: length -> hook; called anew for every piece, so that its factors may change between passes.
    """

    def hook(call: Call) -> Call:
        if call.t0 < L0:
            return call
        return make_hook(L0 + ((call.t0 - L0) // block + 0.5) * block)(call)

    return piecewise(cuts_every(block, L0), hook)


def piecewise(cuts: Cuts, hook: Hook) -> Hook:
    """Apply a hook to pieces between fixed steps, however the sequence is read: for what is constant within a piece.

    Cuts are counted from the start of the sequence, so that reading it whole, in pieces or step by step is the same. Of
    several such hooks in a chain the cuts are joined. A hook's post_state belongs to the end of its own piece.

    Raises:
        ValueError: when called, if an earlier hook of the chain has put another recurrence in place of the scan.
    """

    def outer(call: Call) -> Call:
        if call.scan is None:
            return replace(call, scan=_Pieces(cuts, hook))
        if not isinstance(call.scan, _Pieces):
            raise ValueError("two remedies of one chain replace the scan; leave out one of them")
        earlier = call.scan
        joined = _Pieces(lambda t0, t1: earlier.cuts(t0, t1) | cuts(t0, t1), chain(earlier.hook, hook))
        return replace(call, scan=joined)

    return outer


@dataclass(frozen=True)
class _Pieces:
    """The ordinary scan, piece after piece."""

    cuts: Cuts
    hook: Hook

    def __call__(self, call: Call, ordinary: Ordinary) -> tuple[Tensor, Tensor, tuple[Tensor, ...], None]:
        t1 = call.t0 + call.shape[1]
        start, h, held, ys = call.t0, call.h0, call.held, []
        for end in sorted(self.cuts(call.t0, t1) | {t1}):
            part = call.cut(start - call.t0, end - call.t0)
            part = self.hook(replace(part, h0=h, held=held, scan=None, post_state=None))
            y, h, held = ordinary(part)
            h = part.post_state(h) if part.post_state else h
            ys.append(y)
            start = end
        return torch.cat(ys, dim=1), h, held, None

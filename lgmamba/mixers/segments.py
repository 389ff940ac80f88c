"""A sliding window for any mixer: segments that overlap, each read from an empty state.

Segments of 2 hop steps start every hop steps, counted from the start of the sequence; each step is read off the older segment that it is
in, so that its state holds the last hop to 2 hop steps and nothing older. With M layers steps up to M (2 hop - 1) back have an effect.
Glossary: `lgmamba.mixers`.
"""

from dataclasses import replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.mixers.contract import Call, Ordinary, Remembered

C = TypeVar("C", bound=Call)


def in_segments(call: C, r: int) -> C:
    """The call with its state restricted to between r / 2 and r steps (r rounded up to an even number); up to step r as ever.

    Raises:
        ValueError: the call has another recurrence already; or, when it is read, the piece before was read without the window.
    """
    if call.scan is not None:
        raise ValueError("two remedies of one chain replace the scan; leave out one of them")
    hop = -(-r // 2)

    def scan(call: C, ordinary: Ordinary) -> tuple[Tensor, Tensor, tuple[Tensor, ...], Remembered]:
        L = call.shape[1]
        rows = _with_remembered(call)
        remembered = tuple(getattr(rows, name)[:, max(0, rows.shape[1] - 2 * hop + 1) :] for name in rows.PER_STEP)
        if call.t0 + L <= r:
            return *ordinary(call), remembered
        y, h, held = read_segments(rows, ordinary, hop)
        return y[:, -L:], h, held, remembered

    return replace(call, scan=scan)


def _with_remembered(call: C) -> C:
    """The call with the steps remembered in front, from an empty state."""
    call = call.reset()
    if call.t0 == 0:
        return call
    if call.remembered is None:
        raise ValueError(f"the {call.t0} steps before this piece were read without the window; read them with it")
    old = zip(call.PER_STEP, call.remembered, strict=True)
    steps = {name: torch.cat([before, getattr(call, name)], 1) for name, before in old}
    return replace(call, t0=call.t0 - call.remembered[0].shape[1], **steps)


def read_segments(rows: Call, ordinary: Ordinary, hop: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """What to finish, memory and held of rows whose step rows.t0 + 1 may lie anywhere; those before the first whole segment are not read."""
    B, L = rows.shape
    lead = -rows.t0 % hop if rows.t0 else 0  # rows before the first segment start at hand: no step asks for them
    segments = max(1, -(-(L - lead) // hop) - 1)
    missing = lead + (segments + 1) * hop - L
    parts = {}
    for name in rows.PER_STEP:  # steps of zeros fill the last segment: they are masked
        v = getattr(rows, name)
        v = F.pad(v, (0, 0) * (v.ndim - 2) + (0, missing))[:, lead:]
        v = v.unfold(1, 2 * hop, hop).movedim(-1, 2)  # (B, segments, 2 hop, ...)
        parts[name] = v.flatten(0, 1)
    y, h, held = ordinary(replace(rows, **parts))
    y = y.unflatten(0, (B, segments))
    y = torch.cat([y[:, 0, :hop], y[:, :, hop:].flatten(1, 2)], dim=1)[:, : L - lead]
    last = (v.unflatten(0, (B, segments))[:, -1] for v in (h, *held))
    return y, next(last), tuple(last)

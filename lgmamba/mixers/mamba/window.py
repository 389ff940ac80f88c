"""A sliding window over the steps: the state holds what the last r steps wrote (Stuffed Mamba, arXiv:2410.07145, method 3).

    h^(r)_t = h_t - exp(A (S_t - S_{t-r})) h_{t-r},    S cumulative step size

The difference cancels where a mode has grown, so it is never formed. Steps are cut into blocks of r; with t at place j of its block

    h^(r)_t = P_t + exp(A s_t) Q_j

where P is the scan of the block from an empty state, s its cumulative step size, and Q_j what the last r - j steps of the block
before wrote, as it stands at that block's end. Both are sums of what the window holds, and every exponent is <= 0.

`overlap` is cheaper: segments of length r that start every r / 2 steps, read from an empty state; each step is read off the older
segment that it is in, so its window is between r / 2 and r steps (r is rounded up to an even number).

Each layer's window is over its own inputs, which the layers below made of theirs: with M layers, steps up to M (r - 1) back have
an effect, and the short convolutions and gates are as ever. Glossary: `lgmamba.mixers`; r window, steps; M layers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.mixers.contract import Ordinary, Remembered
from lgmamba.mixers.segments import read_segments

if TYPE_CHECKING:
    from lgmamba.mixers.mamba.mixer import MambaCall

REMEMBERED = ("dt", "x", "Bmat")
"""What is written by a step; those that a window may still reach are carried from piece to piece."""


def windowed(call: MambaCall, r: int, form: str) -> MambaCall:
    """The call with its state restricted to the last r steps. No step looks at later ones.

    Args:
        r: window, steps, >= 1. Sequences of at most r steps are read as ever.
        form: exact, at twice the cost of a scan and the memory of r states for one layer at a time; or overlap.
    Raises:
        ValueError: the call has another recurrence already; or, when it is read, the piece before was read without the window.
    """
    if call.scan is not None:
        raise ValueError("two remedies of one chain replace the scan; leave out one of them")
    hop = -(-r // 2)
    reach = r - 1 if form == "exact" else 2 * hop - 1

    def scan(call: MambaCall, ordinary: Ordinary) -> tuple[Tensor, Tensor, tuple[()], Remembered]:
        L = call.dt.shape[1]
        rows = _with_remembered(call)
        remembered = tuple(getattr(rows, name)[:, max(0, rows.dt.shape[1] - reach) :] for name in REMEMBERED)
        if call.t0 + L <= r:
            return *ordinary(call), remembered
        y, h = _exact(rows, ordinary, r) if form == "exact" else read_segments(rows, ordinary, hop)[:2]
        return y[:, -L:], h, (), remembered

    return replace(call, scan=scan)


def _with_remembered(call: MambaCall) -> MambaCall:
    """The call with the steps remembered in front, without their gates and read-outs, which nobody asks for again."""
    if call.t0 == 0:
        return replace(call, h0=None)
    if call.remembered is None:
        raise ValueError(f"the {call.t0} steps before this piece were read without the window; read them with it")
    m = call.remembered[0].shape[1]
    old = zip(REMEMBERED, call.remembered, strict=True)
    steps = {name: torch.cat([before, getattr(call, name)], 1) for name, before in old}
    for name in set(call.PER_STEP) - set(REMEMBERED):
        v = getattr(call, name)
        steps[name] = torch.cat([v.new_zeros(v.shape[0], m, *v.shape[2:]), v], 1)
    return replace(call, t0=call.t0 - m, h0=None, **steps)


def _exact(rows: MambaCall, ordinary: Ordinary, r: int) -> tuple[Tensor, Tensor]:
    """Gated outputs and end state of rows read from an empty state, block by block."""
    L = rows.dt.shape[1]
    gate = None if rows.z is None else F.silu(rows.z)
    ys, Q = [], None
    for start in range(0, L, r):
        block = rows.cut(start, start + r)
        y, h, _ = ordinary(block)
        if Q is not None:
            n = block.dt.shape[1]
            older = torch.exp(block.dt.cumsum(1)[..., None] * rows.A) * Q[:, :n]  # (B, n, D, N)
            correction = _read(older, block.Cmat.to(older.dtype))
            correction = correction if gate is None else correction * gate[:, start : start + r]
            y = y + correction.to(y.dtype)
            h = h + older[:, -1]
        ys.append(y)
        Q = _suffixes(block) if start + r < L else None
    return torch.cat(ys, dim=1), h


def _suffixes(block: MambaCall) -> Tensor:
    """Q_j (B, r, D, N): what steps j + 1 .. r of a block wrote, at its end; 0 for j = r."""
    to_go = _sum_of_later(block.dt)
    wrote = (block.dt * block.x)[..., None] * _of_channels(block.Bmat, block.dt.shape[2])
    return _sum_of_later(torch.exp(to_go[..., None] * block.A) * wrote)


def _read(h: Tensor, Cmat: Tensor) -> Tensor:
    """What (B, L, N), or (B, L, G, N) by group of channels, read of states (B, L, D, N): (B, L, D)."""
    if Cmat.ndim == 3:
        return torch.einsum("bldn,bln->bld", h, Cmat)
    return torch.einsum("blgpn,blgn->blgp", h.unflatten(2, (Cmat.shape[2], -1)), Cmat).flatten(2)


def _of_channels(Bmat: Tensor, D: int) -> Tensor:
    """(B, L, N) as (B, L, 1, N), for all channels alike; (B, L, G, N) as (B, L, D, N)."""
    return Bmat[:, :, None] if Bmat.ndim == 3 else Bmat.repeat_interleave(D // Bmat.shape[2], dim=2)


def _sum_of_later(v: Tensor) -> Tensor:
    """Sums over all later steps: v (B, L, ...) -> the same shape, 0 at the last step."""
    later = torch.cat([v[:, 1:], torch.zeros_like(v[:, :1])], dim=1)
    return later.flip(1).cumsum(1).flip(1)

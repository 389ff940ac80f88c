"""Attention over the last w steps, then Mamba-1 over windows of w steps, after Gather-Scatter Mamba (arXiv:2510.00862, and its release).

    a_t   = W_o softmax_j(q_t . k_j / sqrt(P) + bias[t - j]) v_j,     0 <= t - j < w,   a learned bias for each lag and head
    out_t = a_t + Mamba(u + a)_t,     Mamba's state empty at the start of each window

Windows of the scan start every w / 2 steps, and a step is read off the older of the two that it is in: its state holds the last w / 2 to w
steps, as under the remedy `window` in its form `overlap`. So two memories go on, of the windows that start at even and at odd multiples of
w / 2. With M layers, steps up to 2 M (w - 1) back have an effect; what is beyond is forgotten by construction.

What is theirs: local attention with a bias by lag and then a scan over a short window from an empty state, so that no recurrence is longer than
the window. What is not: video. Theirs shifts windows in space and time, warps the frames of a window to its middle one by optical flow
(gather), scans them in both directions, warps back and overwrites (scatter), looks two frames ahead, and has an MLP in each layer.
Nothing is gathered here, as a mixer knows no places. Windows are counted by the numbers of steps, whatever is dropped between.

Whole pieces are read window beside window; with a hook, one step after the other. Glossary: `lgmamba.mixers`; H heads, P their width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Mixer, State
from lgmamba.mixers.growing import whole_steps
from lgmamba.mixers.init import scale_by_depth
from lgmamba.mixers.mamba.mixer import MambaCall, MambaMixer
from lgmamba.mixers.paced import PacedCall, Walk, gains

ROWS = 256
"""Steps that look at a time."""


@dataclass(frozen=True, kw_only=True)
class GsmLocalCall(PacedCall):
    """h^p_t = exp(-pace_t dt_t change(A)) h^p_(t-1) + wrote_t pace_t dt_t B_t x_t, with h^p_(t-1) = 0 at the start of a window; p = 0, 1.

    Attributes:
        u: (B, L, d) steps.
        q, k, v: (B, L, width).
        index, open: (B, L) number of each step, from 1; 1, or 0 where it is masked.
        entered: (B, L, 1 or 2 D) gain on the scan's input.
        width: w.
        scanned: the layer's own, call -> what its scan is given, without gains.
        skip: (D,).
    """

    OWN: ClassVar[tuple[str, ...]] = ("u", "q", "k", "v", "index", "open", "entered")

    u: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    index: Tensor
    open: Tensor
    entered: Tensor
    width: int
    scanned: Callable[[Self], tuple[MambaCall, Tensor]]
    skip: Tensor

    def enter(self, g: Tensor) -> Self:
        return replace(self, entered=self.entered * g)

    def mask(self, m: Tensor) -> Self:
        return replace(self, open=self.open * whole_steps(m, *self.shape))

    def started(self, last: Tensor, now: Tensor) -> Tensor:
        """Whether a window of each kind starts between two steps, by their numbers (B,), the first of which is 0 at the start: (B, 2)."""
        shift = self.width // 2 * torch.arange(2, device=now.device)
        windows = [torch.div(t[:, None] - 1 + shift, self.width, rounding_mode="floor") for t in (last, now)]
        return (windows[0] != windows[1]) & (last > 0)[:, None]

    def last(self) -> Tensor:
        """(B,) number of the last step read before the piece, 0 at the start."""
        return self.held[-1] if self.held else torch.zeros_like(self.index[:, 0])

    def walk(self) -> Walk:
        for y, h, last, _ in self._each_step():
            yield y, h, (last,)

    def retained(self) -> Tensor:
        return torch.stack([left for *_, left in self._each_step()], dim=1)

    def _each_step(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """What to finish, memory, number of the last step read, and what was retained, after each step."""
        scan, attended = self.scanned(self)
        D, N = scan.A.shape
        h, last, rates = self.start(2 * D, N), self.last(), self.changed(-torch.cat([scan.A, scan.A]))
        for t, now in enumerate(self.each()):
            is_open = now.open[:, None] > 0
            x, dt, Bmat, Cmat = (v[:, t] for v in (scan.x, scan.dt, scan.Bmat, scan.Cmat))
            x, dt = torch.cat([x, x], 1).to(dt.dtype) * now.entered, torch.cat([dt, dt], 1) * now.pace * is_open
            kept = ~(self.started(last, now.index) & is_open).repeat_interleave(D, dim=1)
            left = torch.exp(-dt[..., None] * rates) * kept[..., None]
            h = left * h + (dt * x)[..., None] * (Bmat * now.wrote)[:, None]
            last = torch.where(is_open[:, 0], now.index, last)
            read = (h * (Cmat * now.seen)[:, None]).sum(-1) + torch.cat([self.skip, self.skip]) * x
            y = older(read[:, None], now.index[:, None], self.width)[:, 0] * F.silu(scan.z[:, t])
            yield torch.cat([y, attended[:, t].to(y.dtype)], dim=-1), h, last, left


def older(y: Tensor, index: Tensor, w: int) -> Tensor:
    """Of what both kinds of window give (B, L, 2 D) that of the older, by the numbers of steps (B, L): (B, L, D)."""
    even, odd = y.chunk(2, dim=-1)
    half = torch.div(index - 1, w // 2, rounding_mode="floor")
    return torch.where((half % 2 == 1)[..., None], even, odd)


def along_lags(bias: Tensor, rows: int) -> Tensor:
    """Biases by lag (H, w) of steps in a row, towards the w - 1 steps before them and themselves: (H, rows, w - 1 + rows).

    Elsewhere 0. Each row is the one above it, one step later. Nothing is looked up by number: on a GPU the gradient of that adds
    up all that had one lag one after the other.
    """
    w = bias.shape[1]
    row = F.pad(bias.flip(1), (0, rows))[:, None].expand(-1, rows, -1)
    return row.flatten(1)[:, : rows * (rows + w - 1)].unflatten(1, (rows, rows + w - 1))


class GsmLocalMixer(Mixer):
    """Local attention, and a Mamba-1 of what it gives.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        mixer, d = config.mixer, config.d_model
        self.qkv, self.out = nn.Linear(d, 3 * mixer.width, bias=False), nn.Linear(mixer.width, d, bias=False)
        self.bias = nn.Parameter(torch.zeros(mixer.heads, mixer.window))
        self.mamba = MambaMixer(mixer.part(config), layer)
        scale_by_depth(config.n_layer, self.out.weight)

    def holds(self) -> tuple[tuple[int, ...], ...]:
        """Keys, values, numbers and openness of the last w - 1 steps, closed ones at the start; the number of the last read."""
        before, width = self.config.window - 1, self.config.width
        return (before, width), (before, width), (before,), (before,), ()

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[GsmLocalCall, tuple[()]]:
        B, L, _ = u.shape
        tensors = gains(B, L, self.bias)
        one = tensors["pace"]
        index = torch.arange(t0 + 1, t0 + L + 1, device=u.device, dtype=one.dtype).expand(B, L)
        q, k, v = self.qkv(u).chunk(3, dim=-1)
        tensors |= {"u": u, "q": q, "k": k, "v": v, "index": index, "open": one[..., 0], "entered": one}
        fixed = {"width": self.config.window, "scanned": self._scanned, "skip": self.mamba.D}
        return GsmLocalCall(
            layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors, **fixed
        ), ()

    def _kept(self, call: GsmLocalCall) -> tuple[Tensor, ...]:
        """Keys, values, numbers and openness of the w - 1 steps before the piece and of its own."""
        mine = (call.k, call.v, call.index, call.open)
        before = call.held[:-1] or [call.like.new_zeros(call.shape[0], *shape) for shape in self.holds()[:-1]]
        return tuple(torch.cat([old.to(new.dtype), new], dim=1) for old, new in zip(before, mine, strict=True))

    def _attended(self, call: GsmLocalCall, in_a_row: bool) -> Tensor:
        """(B, L, d).

        Args:
            in_a_row: whether the call is known to begin a sequence of which nothing was dropped.
        """
        w, heads = self.config.window, self.config.heads
        keys, values, index, is_open = self._kept(call)
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (call.q, keys, values))
        found = []
        for start in range(0, call.shape[1], ROWS):
            stop = min(start + ROWS, call.shape[1])
            seen = slice(start, stop + w - 1)  # the last w - 1 steps before, and these
            lag = call.index[:, start:stop, None] - index[:, None, seen]
            hidden = (lag < 0) | (lag >= w) | ((is_open[:, None, seen] == 0) & (lag > 0))  # a step sees itself
            scores = q[:, :, start:stop] @ k[:, :, seen].mT / q.shape[-1] ** 0.5
            if in_a_row:
                bias = along_lags(self.bias, stop - start)  # (H, rows, steps)
            else:
                bias = self.bias[:, lag.clamp(0, w - 1).long()].transpose(0, 1)  # (B, H, rows, steps)
            weights = (scores + bias).masked_fill(hidden[:, None], -torch.inf).softmax(dim=-1)
            found.append(weights.to(v.dtype) @ v[:, :, seen])
        return self.out(torch.cat(found, dim=2).transpose(1, 2).flatten(2))

    def _scanned(self, call: GsmLocalCall, in_a_row: bool = False) -> tuple[MambaCall, Tensor]:
        """What the scan is given, and what attention gave (B, L, d)."""
        attended = self._attended(call, in_a_row)
        return self.mamba.prepare(call.u + attended, None, 0, None, None)[0], attended

    def _held(self, call: GsmLocalCall, last: Tensor) -> tuple[Tensor, ...]:
        before, wide = self.config.window - 1, call.like.dtype
        return (*(v[:, v.shape[1] - before :].to(wide) for v in self._kept(call)), last.to(wide))

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """Windows beside each other, each with its empty state."""
        call, _ = self.prepare(u, state, t0, None, None)
        scan, attended = self._scanned(call, in_a_row=state is None)
        (B, L), w, (D, N) = call.shape, self.config.window, scan.A.shape
        started = call.started(call.last(), call.index[:, 0])
        ys, hs = [], []
        for kind, h0 in enumerate(call.start(2 * D, N).split(D, dim=1)):
            lead = (t0 + kind * w // 2) % w  # steps of the first window that were read before
            windows = -(-(lead + L) // w)
            parts = {}
            for name in scan.PER_STEP:  # padded with steps of zeros, which are masked
                padded = F.pad(getattr(scan, name), (0, 0, lead, windows * w - lead - L))
                parts[name] = padded.unflatten(1, (windows, w)).flatten(0, 1)
            first = (h0 * ~started[:, kind, None, None])[:, None]
            starts = F.pad(first, (0, 0, 0, 0, 0, windows - 1)).flatten(0, 1)
            y, h, _ = self.mamba.recur(replace(scan, h0=starts, **parts))
            ys.append(y.unflatten(0, (B, windows)).flatten(1, 2)[:, lead : lead + L])
            hs.append(h.unflatten(0, (B, windows))[:, -1])
        y = older(torch.cat(ys, dim=-1), call.index, w)
        out = self.finish(torch.cat([y, attended.to(y.dtype)], dim=-1))
        return out, State(torch.cat(hs, dim=1), self._held(call, call.index[:, -1])) if want_state else None

    def recur(self, call: GsmLocalCall) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Outputs of the scan before its out-projection and of attention, (B, L, D + d); both memories; and what is held."""
        y, h, (last,) = call.read_all()
        return y, h, self._held(call, last)

    def finish(self, y: Tensor) -> Tensor:
        D = self.shape[0] // 2
        scanned, attended = y.split([D, y.shape[-1] - D], dim=-1)
        return attended + self.mamba.finish(scanned)

"""Mamba-1 at several scales of time, after UmambaTSF (arXiv:2410.11278; from secondary sources, its code was not at hand).

    X^s_n = mean of the steps of block n, s steps each,      s = 1, 4, 16
    Y^s   = Mamba_s(X^s),   without its short convolution, in whose place are the means
    out_t = sum_s W_s Y^s_n(s, t),   n(s, t) the last block of scale s that is full at step t (zeros before the first)

What is UmambaTSF's: a U over time, down to coarser scales, a Mamba at each, and up again with what each scale has added. What is not: it
goes down and up by linear maps over the whole window, with weights for every step of it, so that it is defined at one length only and
every output sees the whole window; and its instance norm and head are those of a forecast. Means of blocks and holding the last full block
are the causal form of both, at any length. A coarse scale sees T / s steps: it is slow by itself, and its training length is L0 / s.

The step that fills a block is a step of the coarse scale, which does nothing at others. Verbs act on it there. Masked steps are not counted
in blocks, so that they leave no trace. One form serves hooks and training. Glossary: `lgmamba.mixers`; D channels of a scale, S scales.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Mixer, State, gather_steps
from lgmamba.mixers.growing import whole_steps
from lgmamba.mixers.mamba.mixer import MambaCall, MambaMixer
from lgmamba.mixers.paced import PacedCall, gains


@dataclass(frozen=True)
class Scale:
    """What one scale is about to do with a piece.

    Attributes:
        call: of its blocks, (B, n, ...); those that the piece does not fill are masked.
        full: (B, L) blocks filled by the piece up to each step.
        ends: (B, L) whether a step fills one.
        left: (B, d) sum of the steps of the block that is not full after the piece.
    """

    call: MambaCall
    full: Tensor
    ends: Tensor
    left: Tensor


@dataclass(frozen=True, kw_only=True)
class UmambaCall(PacedCall):
    """What is read, and how; pace and what enters are (B, L, 1 or S D).

    Attributes:
        u: (B, L, d) steps.
        open: (B, L) 1, or 0 where a step is masked.
        entered: (B, L, 1 or S D) gain on the scans' inputs.
        at: the layer's own scales on a call.
    """

    OWN: ClassVar[tuple[str, ...]] = ("u", "open", "entered")

    u: Tensor
    open: Tensor
    entered: Tensor
    at: Callable[[Self], list[Scale]]

    def enter(self, g: Tensor) -> Self:
        return replace(self, entered=self.entered * g)

    def mask(self, m: Tensor) -> Self:
        return replace(self, open=self.open * whole_steps(m, *self.shape))

    def retained(self) -> Tensor:
        found = []
        for scale in self.at(self):
            share = scale.call.retained()
            share = gather_steps(share, (scale.full - 1).clamp(min=0))
            found.append(torch.where(scale.ends[..., None, None], share, torch.ones_like(share)))
        return torch.cat(found, dim=2)

    def states(self) -> Tensor:
        return torch.cat([held_over(s.call.h0, s.call.states(), s.full) for s in self.at(self)], dim=2)


def held_over(before: Tensor, after: Tensor, full: Tensor) -> Tensor:
    """What stands at each step, of what stood before the piece (B, ...) and after each block (B, n, ...): (B, L, ...)."""
    return gather_steps(torch.cat([before[:, None].to(after.dtype), after], dim=1), full)


class UmambaMixer(Mixer):
    """A Mamba-1 for each scale, and the sum of what they give.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.sizes, self.width = config.mixer.scales, config.d_model
        self.scales = nn.ModuleList(MambaMixer(config.mixer.part(config), layer) for _ in self.sizes)

    def holds(self) -> tuple[tuple[int, ...], ...]:
        """Steps counted in the coarsest block, sums of the blocks that are not full, outputs of the last that were."""
        S = len(self.sizes)
        return (), (S, self.width), (self.shape[0],)

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[UmambaCall, tuple[()]]:
        tensors = gains(*u.shape[:2], next(self.parameters()))
        one = tensors["pace"]
        tensors |= {"u": u, "open": one[..., 0], "entered": one, "at": self._at}
        return UmambaCall(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), ()

    def _held(self, call: UmambaCall) -> tuple[Tensor, ...]:
        if call.held:
            counted, sums, outputs = call.held
            return counted.round().long(), sums, outputs  # whole numbers, also after a mean of them
        B, like = call.shape[0], call.like
        empty = [like.new_zeros(B, *shape) for shape in self.holds()]
        return empty[0].long(), *empty[1:]

    def _at(self, call: UmambaCall) -> list[Scale]:
        counted, sums, _ = self._held(call)
        u, L, D = call.u.to(sums.dtype), call.shape[1], self.shape[0] // len(self.sizes)
        h0 = call.start(*self.shape).split(D, dim=1)
        is_open = call.open > 0
        count = counted[:, None] + is_open.long().cumsum(1)
        rates = call.changed(torch.cat([-m._A() for m in self.scales])).split(D, dim=-2)
        found = []
        for i, (size, mamba) in enumerate(zip(self.sizes, self.scales, strict=True)):
            if size == 1:
                full = torch.arange(1, L + 1, device=u.device).expand_as(count)
                ends, total = is_open, F.pad(u, (0, 0, 0, 1))
                verbs = (call.pace * call.open[..., None], call.wrote, call.seen, call.entered)
            else:
                done = counted[:, None] // size
                full, ends = count // size - done, is_open & (count % size == 0)
                blocks = torch.arange(-(-L // size) + 1, device=u.device)[:, None]
                block = ((count - 1) // size - done)[:, None]  # that a step is in
                total = ((block == blocks) & is_open[:, None]).to(u.dtype) @ u  # (B, n + 1, d)
                total = total + (blocks == 0).to(u.dtype) * sums[:, i, None]
                last = ((full[:, None] == blocks + 1) & ends[:, None])[:, :-1].to(u.dtype)  # (B, n, L)
                verbs = tuple(last @ v for v in (call.pace, call.wrote, call.seen, call.entered))
            pace, wrote, seen, entered = verbs
            mine = slice(i * D, (i + 1) * D)
            pace, entered = (v[..., mine] if v.shape[-1] > 1 else v for v in (pace, entered))
            blocked, _ = mamba.prepare((total[:, :-1] / size).to(call.u.dtype), None, 0, None, None)
            changed = {
                "x": blocked.x * entered.to(blocked.x.dtype),
                "dt": blocked.dt * pace,
                "A": -rates[i],
                "h0": h0[i],
            }
            changed |= {"Bmat": blocked.Bmat * wrote, "Cmat": blocked.Cmat * seen}
            left = gather_steps(total, full[:, -1:])[:, 0]
            found.append(Scale(replace(blocked, **changed), full, ends, left))
        return found

    def recur(self, call: UmambaCall) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Outputs of all scales before their out-projections, (B, L, S D), the memory, and what is held."""
        counted, _, outputs = self._held(call)
        ys, hs, scales = [], [], self._at(call)
        for scale, mamba, before in zip(scales, self.scales, outputs.chunk(len(scales), dim=1), strict=True):
            y, h, _ = mamba.recur(scale.call)
            ys.append(held_over(before.to(y.dtype), y, scale.full))
            hs.append(h)
        y = torch.cat(ys, dim=-1)
        counted = (counted + (call.open > 0).sum(1)) % self.sizes[-1]
        sums = torch.stack([scale.left for scale in scales], dim=1)
        return y, torch.cat(hs, dim=1), (counted.to(sums.dtype), sums, y[:, -1].to(sums.dtype))

    def finish(self, y: Tensor) -> Tensor:
        parts = zip(self.scales, y.chunk(len(self.scales), dim=-1), strict=True)
        return torch.stack([mamba.finish(part) for mamba, part in parts]).sum(0)

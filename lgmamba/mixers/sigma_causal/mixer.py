"""Mamba-1 with a gate and a GRU side by side: what of SIGMA (Liu et al. 2024, arXiv:2408.11451, and its release) is causal.

    x = W_in u
    g = W_1 SiLU(h) + W_2 sigmoid(h),   h = x + W_h x + b_h                 the gate
    m = (1 + g) Mamba(x),   r = GRU(conv(x)),   conv over the last 3 steps
    out = W_out (W_p (alpha m + beta r) + b_p)

alpha and beta are learned, and start at 0.9 and 0.1. What is theirs: the gate, the GRU of a short convolution, the weighted sum and its
projection; and the weights in it, which their release trains as they are. What is not: a second path through the same Mamba, of the
sequence with all but its last items flipped, weighted 0.1 where Mamba has 0.8, which looks ahead, as their convolution does by one item;
dropout in the gate; an MLP after each layer; and the width of it all, which is d there. Glossary: `lgmamba.mixers`; e inner width.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Factor, Mixer, State
from lgmamba.mixers.gru.mixer import gru_step
from lgmamba.mixers.init import scale_by_depth
from lgmamba.mixers.mamba.mixer import MambaCall, MambaMixer
from lgmamba.mixers.segments import in_segments

TAPS = 3
"""Steps of the convolution."""


@dataclass(frozen=True, kw_only=True)
class SigmaCausalCall(MambaCall):
    """Mamba-1's call, whose verbs are its memory's, and what the GRU beside it is about to read.

    Attributes:
        gates: (B, L, 3 e) what the input gives to the GRU.
        gru_pace: (B, L) how fast its time runs; 0 masks a step.
        gate: (B, L, e) g.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = (*MambaCall.PER_STEP, "gates", "gru_pace", "gate")

    gates: Tensor
    gru_pace: Tensor
    gate: Tensor

    def slow(self, s: Factor) -> Self:
        mean = s.to(self.gru_pace).mean(-1) if isinstance(s, Tensor) and s.ndim else s
        return replace(super().slow(s), gru_pace=self.gru_pace * mean)

    def mask(self, m: Tensor) -> Self:
        return replace(super().mask(m), gru_pace=self.gru_pace * m.to(self.gru_pace).amax(-1))

    def window(self, r: int, form: str) -> Self:
        return in_segments(self, r)


class SigmaCausalMixer(Mixer):
    """Both paths between an in- and an out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        e = config.mixer.width
        self.in_proj, self.out_proj = nn.Linear(config.d_model, e, bias=False), nn.Linear(e, config.d_model, bias=False)
        self.mamba = MambaMixer(config.mixer.part(config, e), layer)
        self.conv = nn.Conv1d(e, e, TAPS)
        self.gru = nn.GRU(e, e, bias=False, batch_first=True)
        self.dense, self.by_silu, self.by_sigmoid, self.projection = (nn.Linear(e, e) for _ in range(4))
        self.weights = nn.Parameter(torch.tensor([0.9, 0.1]))
        scale_by_depth(config.n_layer, self.out_proj.weight)

    def carries(self) -> tuple[tuple[int, ...], ...]:
        """The last inputs of the convolution."""
        return ((TAPS - 1, self.config.width),)

    def holds(self) -> tuple[tuple[int, ...], ...]:
        """The GRU's output."""
        return ((self.config.width,),)

    def _sides(self, u: Tensor, state: State | None) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        """x, its convolution, g, (B, L, e) each, and the carry."""
        x = self.in_proj(u)
        before = state.carry[0].to(x.dtype) if state else x.new_zeros(len(x), TAPS - 1, x.shape[-1])
        padded = torch.cat([before, x], dim=1)
        convolved = self.conv(padded.transpose(1, 2)).transpose(1, 2)
        h = x + self.dense(x)
        return x, convolved, self.by_silu(F.silu(h)) + self.by_sigmoid(torch.sigmoid(h)), (padded[:, x.shape[1] :],)

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[SigmaCausalCall, tuple[Tensor, ...]]:
        x, convolved, gate, carry = self._sides(u, state)
        scan, _ = self.mamba.prepare(x, None, t0, None, target_length)
        with torch.autocast(u.device.type, enabled=False):
            gates = F.linear(convolved.to(self.gru.weight_ih_l0.dtype), self.gru.weight_ih_l0)
        tensors = {name: getattr(scan, name) for name in ("A", *MambaCall.PER_STEP)}
        tensors |= {"gates": gates, "gru_pace": torch.ones_like(gates[..., 0]), "gate": gate}
        return SigmaCausalCall(
            layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors
        ), carry

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """By Mamba-1's scan and torch's GRU."""
        x, convolved, gate, carry = self._sides(u, state)
        scan, _ = self.mamba.prepare(x, None, t0, None, None)
        y, memory, _ = self.mamba.recur(scan if state is None else replace(scan, h0=state.memory))
        dtype = self.gru.weight_ih_l0.dtype
        with torch.autocast(u.device.type, enabled=False):
            h0 = None if state is None else state.carry[-1][None].to(dtype).contiguous()
            r, h = self.gru(convolved.to(dtype), h0)
        out = self.finish(torch.cat([y.to(r.dtype), r, gate.to(r.dtype)], dim=-1))
        return out, State(memory, (*carry, h[0])) if want_state else None

    def recur(self, call: SigmaCausalCall) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Mamba-1's outputs before its out-projection, the GRU's and the gate, (B, L, D + 2 e), the memory, and the GRU's output."""
        y, memory, _ = self.mamba.recur(call)
        h = call.held[0] if call.held else call.gates.new_zeros(call.shape[0], self.config.width)
        found = []
        with torch.autocast(h.device.type, enabled=False):
            for gates, pace in zip(call.gates.unbind(1), call.gru_pace[..., None].unbind(1), strict=True):
                candidate, ln_z = gru_step(gates, h, self.gru.weight_hh_l0, None)
                h = torch.exp(pace * ln_z) * h - torch.expm1(pace * ln_z) * candidate
                found.append(h)
        r = torch.stack(found, dim=1)
        return torch.cat([y.to(r.dtype), r, call.gate.to(r.dtype)], dim=-1), memory, (h,)

    def finish(self, y: Tensor) -> Tensor:
        D, e = self.shape[0], self.config.width
        y, r, gate = y.split([D, e, e], dim=-1)
        joined = self.weights[0] * (1 + gate) * self.mamba.finish(y) + self.weights[1] * r
        return self.out_proj(self.projection(joined))

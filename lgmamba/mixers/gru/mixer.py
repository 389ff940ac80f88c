"""A gated recurrent unit (Cho et al. 2014, arXiv:1406.1078) with an out-projection. Glossary: `lgmamba.mixers`; H size of the state.

With reset gate r, update gate z and candidate n of a step, which depend on its input and on the state before it,

    h_t = z h_(t-1) + (1 - z) n,    out = W_out h

so that z is what a step retains. A hook acts on that step; without one, torch's own GRU reads the sequence.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Call, Factor, Mixer, State


@dataclass(frozen=True, kw_only=True)
class GruCall(Call):
    """What one layer is about to read: h_t = exp(-pace_t change(-ln z)) h_(t-1) + (1 - z^pace_t) wrote_t n.

    Attributes:
        gates: (B, L, 3 H) what the input gives to reset gate, update gate and candidate.
        pace, wrote, seen: (B, L, H) how fast time runs, and gains on what is written and read; 1 as the layer is.
        step: the layer's own step, gates (B, 3 H) and h (B, H) -> candidate and ln z, (B, H).
        change: function of the rates -ln z, (B, H, 1), or None.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("gates", "pace", "wrote", "seen")
    LINEAR: ClassVar[bool] = False

    gates: Tensor
    pace: Tensor
    wrote: Tensor
    seen: Tensor
    step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    change: Callable[[Tensor], Tensor] | None = None

    @property
    def like(self) -> Tensor:
        return self.gates

    def slow(self, s: Factor) -> Self:
        return replace(self, pace=self.pace * (s.to(self.pace) if isinstance(s, Tensor) else s))

    def decay(self, s: Factor | Callable[[Tensor], Tensor]) -> Self:
        f = s if callable(s) else lambda rates: rates * (s.to(rates) if isinstance(s, Tensor) else s)
        g = self.change
        return replace(self, change=f if g is None else lambda rates: f(g(rates)))

    def write(self, g: Tensor) -> Self:
        return replace(self, wrote=self.wrote * g)

    enter = write

    def read(self, g: Tensor) -> Self:
        return replace(self, seen=self.seen * g)

    def mask(self, m: Tensor) -> Self:
        return replace(self, pace=self.pace * m)

    def states(self) -> Tensor:
        B, H = self.pace.shape[0], self.pace.shape[2]
        h = self.gates.new_zeros(B, H) if self.h0 is None else self.h0[..., 0]
        found = []
        for gates, pace, wrote in zip(*(v.unbind(1) for v in (self.gates, self.pace, self.wrote)), strict=True):
            candidate, ln_z = self.step(gates, h)
            rate = -ln_z if self.change is None else self.change(-ln_z[..., None])[..., 0]
            h = torch.exp(-pace * rate) * h - torch.expm1(pace * ln_z) * wrote * candidate
            found.append(h)
        return torch.stack(found, dim=1)[..., None]


class GruMixer(Mixer):
    """GRU and out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        H = self.shape[0]
        self.gru = nn.GRU(config.d_model, H, batch_first=True)
        self.out_proj = nn.Linear(H, config.d_model, bias=False)
        with torch.no_grad():  # as for other mixers: the residual stream keeps its scale with depth
            self.out_proj.weight /= config.n_layer**0.5

    def fast(
        self, u: Tensor, state: State | None, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """By torch's GRU, in the precision of its weights."""
        dtype = self.gru.weight_ih_l0.dtype
        with torch.autocast(u.device.type, enabled=False):
            h0 = None if state is None else state.memory[None, ..., 0].to(dtype).contiguous()
            y, h = self.gru(u.to(dtype), h0)
        return self.out_proj(y), State(h[0, ..., None]) if want_state else None

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, told: Tensor | None
    ) -> tuple[GruCall, tuple[Tensor, ...]]:
        gru = self.gru
        with torch.autocast(u.device.type, enabled=False):
            gates = F.linear(u.to(gru.weight_ih_l0.dtype), gru.weight_ih_l0, gru.bias_ih_l0)
        one = gates.new_ones(*gates.shape[:2], self.shape[0])
        before = {"h0": state.memory, "remembered": state.remembered} if state else {"h0": None}
        step = partial(_step, weight=gru.weight_hh_l0, bias=gru.bias_hh_l0)
        tensors = {"gates": gates, "pace": one, "wrote": one, "seen": one}
        return GruCall(layer=self.layer, t0=t0, told=told, step=step, **before, **tensors), ()

    def recur(self, call: GruCall) -> tuple[Tensor, Tensor]:
        """What is read of the state after every step, (B, L, H), and the last state (B, H, 1)."""
        with torch.autocast(call.gates.device.type, enabled=False):
            states = call.states()
        return states[..., 0] * call.seen, states[:, -1]

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)


def _step(gates: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    reset, update, candidate = gates.chunk(3, dim=-1)
    reset_h, update_h, candidate_h = F.linear(h, weight, bias).chunk(3, dim=-1)
    candidate = torch.tanh(candidate + torch.sigmoid(reset + reset_h) * candidate_h)
    return candidate, F.logsigmoid(update + update_h)

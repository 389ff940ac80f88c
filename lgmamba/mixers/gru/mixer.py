"""A gated recurrent unit (Cho et al. 2014, arXiv:1406.1078) with an out-projection. Glossary: `lgmamba.mixers`; H size of the state.

With reset gate r, update gate z and candidate n of a step, which depend on its input and on the state before it,

    h_t = z h_(t-1) + (1 - z) n,    out = W_out h

so that z is what a step retains. A hook acts on that step; without one, torch's own GRU reads the sequence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Mixer, State
from lgmamba.mixers.init import scale_by_depth
from lgmamba.mixers.paced import PacedCall, Walk, gains


@dataclass(frozen=True, kw_only=True)
class GruCall(PacedCall):
    """What one layer is about to read: h_t = exp(-pace_t change(-ln z)) h_(t-1) + (1 - z^pace_t) wrote_t n.

    Attributes:
        gates: (B, L, 3 H) what the input gives to reset gate, update gate and candidate.
        step: the layer's own step, gates (B, 3 H) and h (B, H) -> candidate and ln z, (B, H).
    """

    OWN: ClassVar[tuple[str, ...]] = ("gates",)
    LINEAR: ClassVar[bool] = False

    gates: Tensor
    step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

    enter = PacedCall.write

    def retained(self) -> Tensor:
        h, found = self.start(self.gates.shape[-1] // 3, 1)[..., 0], []
        for now, (_, after, _) in zip(self.each(), self.walk(), strict=True):
            _, ln_z = self.step(now.gates, h)
            found.append(torch.exp(-now.pace * self.changed(-ln_z[..., None])[..., 0]))
            h = after[..., 0]
        return torch.stack(found, dim=1)[..., None]

    def walk(self) -> Walk:
        h = self.start(self.gates.shape[-1] // 3, 1)[..., 0]
        for now in self.each():
            candidate, ln_z = self.step(now.gates, h)
            rate = self.changed(-ln_z[..., None])[..., 0]
            h = torch.exp(-now.pace * rate) * h - torch.expm1(now.pace * ln_z) * now.wrote * candidate
            yield now.seen * h, h[..., None], ()


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
        scale_by_depth(config.n_layer, self.out_proj.weight)

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """By torch's GRU, in the precision of its weights."""
        dtype = self.gru.weight_ih_l0.dtype
        with torch.autocast(u.device.type, enabled=False):
            h0 = None if state is None else state.memory[None, ..., 0].to(dtype).contiguous()
            y, h = self.gru(u.to(dtype), h0)
        return self.out_proj(y), State(h[0, ..., None]) if want_state else None

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[GruCall, tuple[Tensor, ...]]:
        gru = self.gru
        with torch.autocast(u.device.type, enabled=False):
            gates = F.linear(u.to(gru.weight_ih_l0.dtype), gru.weight_ih_l0, gru.bias_ih_l0)
        step = partial(gru_step, weight=gru.weight_hh_l0, bias=gru.bias_hh_l0)
        tensors = {"gates": gates, "step": step, **gains(*u.shape[:2], gates)}
        return GruCall(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), ()

    def recur(self, call: GruCall) -> tuple[Tensor, Tensor, tuple[()]]:
        """What is read of the state after every step, (B, L, H), and the last state (B, H, 1)."""
        with torch.autocast(call.gates.device.type, enabled=False):
            return call.read_all()

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)


def gru_step(gates: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """One step of torch's GRU.

    Args:
        gates: (B, 3 H) what the input gives to reset gate, update gate and candidate.
        h: (B, H).
        weight, bias: (3 H, H) and (3 H,), of the state.
    Returns:
        candidate and ln z, (B, H): h becomes z h + (1 - z) candidate.
    """
    reset, update, candidate = gates.chunk(3, dim=-1)
    reset_h, update_h, candidate_h = F.linear(h, weight, bias).chunk(3, dim=-1)
    candidate = torch.tanh(candidate + torch.sigmoid(reset + reset_h) * candidate_h)
    return candidate, F.logsigmoid(update + update_h)

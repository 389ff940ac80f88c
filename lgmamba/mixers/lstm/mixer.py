"""A long short-term memory (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000) with an out-projection.

    c_t = f c_(t-1) + i g,   h_t = o tanh(c_t),   out = W_out h_t

with the gates i, f, o and the candidate g of a step, which depend on its input and on h_(t-1). The memory is c; h is held by the
recurrence. A hook acts on that step; without one, torch's own LSTM reads the sequence. Glossary: `lgmamba.mixers`; H size of c and h.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Mixer, State
from lgmamba.mixers.init import scale_by_depth
from lgmamba.mixers.paced import PacedCall, Walk, gains


@dataclass(frozen=True, kw_only=True)
class LstmCall(PacedCall):
    """c_t = exp(-pace_t change(-ln f)) c_(t-1) + pace_t wrote_t i g,   h_t = seen_t o tanh(c_t).

    Attributes:
        gates: (B, L, 4 H) what the input gives to i, f, g and o.
        weight: (4 H, H), bias: (4 H,), of h.
    """

    OWN: ClassVar[tuple[str, ...]] = ("gates",)
    LINEAR: ClassVar[bool] = False

    gates: Tensor
    weight: Tensor
    bias: Tensor

    enter = PacedCall.write

    def _steps(self):
        """For each step: h after it (B, H), c, and what was retained."""
        H = self.weight.shape[1]
        c = self.start(H, 1)[..., 0]
        h = self.held[0] if self.held else torch.zeros_like(c)
        for now in self.each():
            i, f, g, o = (now.gates + F.linear(h, self.weight, self.bias)).chunk(4, dim=-1)
            left = torch.exp(-now.pace * self.changed(-F.logsigmoid(f)[..., None])[..., 0])
            c = left * c + now.pace * now.wrote * torch.sigmoid(i) * torch.tanh(g)
            found = torch.sigmoid(o) * torch.tanh(c)
            h = torch.where(now.pace == 0, h, found)  # a masked step leaves no trace
            yield now, h, c, left

    def walk(self) -> Walk:
        for now, h, c, _ in self._steps():
            yield now.seen * h, c[..., None], (h,)

    def retained(self) -> Tensor:
        return torch.stack([left for *_, left in self._steps()], dim=1)[..., None]


class LstmMixer(Mixer):
    """LSTM and out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        H = self.shape[0]
        self.lstm = nn.LSTM(config.d_model, H, batch_first=True)
        self.out_proj = nn.Linear(H, config.d_model, bias=False)
        with torch.no_grad():
            self.lstm.bias_ih_l0[H : 2 * H] += config.mixer.forget_bias
        scale_by_depth(config.n_layer, self.out_proj.weight)

    def holds(self) -> tuple[tuple[int, ...], ...]:
        """h."""
        return ((self.shape[0],),)

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """By torch's LSTM, in the precision of its weights."""
        dtype = self.lstm.weight_ih_l0.dtype
        with torch.autocast(u.device.type, enabled=False):
            before = None
            if state is not None:
                before = tuple(v[None].to(dtype).contiguous() for v in (state.carry[0], state.memory[..., 0]))
            y, (h, c) = self.lstm(u.to(dtype), before)
        return self.out_proj(y), State(c[0, ..., None], (h[0],)) if want_state else None

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[LstmCall, tuple[()]]:
        lstm = self.lstm
        with torch.autocast(u.device.type, enabled=False):
            gates = F.linear(u.to(lstm.weight_ih_l0.dtype), lstm.weight_ih_l0, lstm.bias_ih_l0)
        tensors = {"gates": gates, "weight": lstm.weight_hh_l0, "bias": lstm.bias_hh_l0, **gains(*u.shape[:2], gates)}
        return LstmCall(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), ()

    def recur(self, call: LstmCall) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """What is read after every step, (B, L, H), the last cell (B, H, 1), and h."""
        with torch.autocast(call.gates.device.type, enabled=False):
            return call.read_all()

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)

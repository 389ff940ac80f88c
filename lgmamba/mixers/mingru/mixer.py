"""The minimal GRU (Feng et al. 2024, arXiv:2410.01201, section 3.1) with an out-projection.

    z_t = sigmoid(W_z u_t),   h_t = (1 - z_t) h_(t-1) + z_t g(W_h u_t),   out = W_out h_t

with g(x) = x + 1/2 for x >= 0, else sigmoid(x) (appendix B.2), or g(x) = x. Here z writes: the opposite of torch's GRU. The state is an
average of candidates, and so bounded. Glossary: `lgmamba.mixers`; H size of the state.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Mixer, State
from lgmamba.mixers.init import scale_by_depth
from lgmamba.mixers.paced import PacedCall, Walk, gains
from lgmamba.mixers.scans import diag_scan


@dataclass(frozen=True, kw_only=True)
class MingruCall(PacedCall):
    """h_t = exp(-pace_t change(forgets_t)) h_(t-1) + (1 - exp(-pace_t forgets_t)) wrote_t x_t.

    Attributes:
        x: (B, L, H) candidate; forgets: (B, L, H) -ln(1 - z).
    """

    OWN: ClassVar[tuple[str, ...]] = ("x", "forgets")

    x: Tensor
    forgets: Tensor

    def enter(self, g: Tensor) -> Self:
        return replace(self, x=self.x * g)

    def score(self) -> Tensor:
        return self.pace * self.forgets

    def retained(self) -> Tensor:
        return torch.exp(-self.pace[..., None] * self.changed(self.forgets[..., None]))

    def walk(self) -> Walk:
        h = self.start(self.x.shape[-1], 1)[..., 0]
        for now in self.each():
            rate = self.changed(now.forgets[..., None])[..., 0]
            h = torch.exp(-now.pace * rate) * h - torch.expm1(-now.pace * now.forgets) * now.wrote * now.x
            yield now.seen * h, h[..., None], ()


class MingruMixer(Mixer):
    """minGRU and out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        H, memory = self.shape[0], config.mixer.memory
        self.in_proj = nn.Linear(config.d_model, 2 * H)
        self.out_proj = nn.Linear(H, config.d_model, bias=False)
        if memory:  # 1 - z = exp(-1 / memory) at an input of 0
            with torch.no_grad():
                self.in_proj.bias[:H] = math.log(math.expm1(1 / memory))
        scale_by_depth(config.n_layer, self.out_proj.weight)

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[MingruCall, tuple[()]]:
        z, x = self.in_proj(u).to(torch.promote_types(self.in_proj.weight.dtype, torch.float32)).chunk(2, dim=-1)
        if self.config.candidate == "positive":
            x = torch.where(x >= 0, x + 0.5, torch.sigmoid(x))
        tensors = {"x": x, "forgets": F.softplus(z), **gains(*u.shape[:2], x)}
        return MingruCall(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), ()

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """In parallel."""
        call, _ = self.prepare(u, state, t0, None, None)
        kept = torch.exp(-call.forgets)
        h = diag_scan(kept, -torch.expm1(-call.forgets) * call.x, state.memory[..., 0] if state else None)
        return self.finish(h), State(h[:, -1, :, None]) if want_state else None

    def recur(self, call: MingruCall) -> tuple[Tensor, Tensor, tuple[()]]:
        return call.read_all()

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)

"""Gated linear attention (Yang et al. 2024, arXiv:2312.06635, equations 3 and 4, section 4.4).

    S_t = S_(t-1) diag(alpha_t) + v_t k_t^T,   alpha_t = sigmoid(W_2 W_1 u + b)^(1 / 16)         for each head, S (P, N)
    out = W_o (RMSNorm(S_t q_t / sqrt(N)) SiLU(W_g u))                                           the norm by head

A decay of one step is at most exp(-3.75), which is reached only far out in the sigmoid's tail, so that chunks of 16 stay in float32.
The memory holds S as (H P, N). Glossary: `lgmamba.mixers`; H heads, P width of values, N of keys.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers import kernels
from lgmamba.mixers.contract import Mixer, State
from lgmamba.mixers.heads import by_channel, normed_and_gated
from lgmamba.mixers.init import scale_by_depth
from lgmamba.mixers.norm import RMSNorm
from lgmamba.mixers.paced import PacedCall, Walk, gains
from lgmamba.mixers.scans import MOST_DECAY, gla_scan


@dataclass(frozen=True, kw_only=True)
class GlaCall(PacedCall):
    """S_t = exp(-pace_t change(forgets_t)) S_(t-1) + pace_t v_t (wrote_t k_t)^T.

    Attributes:
        q, k: (B, L, H, N), q divided by sqrt(N); v: (B, L, D), D = H P; gate: (B, L, D).
        forgets: (B, L, H, N) -ln alpha.
    """

    OWN: ClassVar[tuple[str, ...]] = ("q", "k", "v", "gate", "forgets")

    q: Tensor
    k: Tensor
    v: Tensor
    gate: Tensor
    forgets: Tensor

    def enter(self, g: Tensor) -> Self:
        return replace(self, v=self.v * g)

    def score(self) -> Tensor:
        D = self.v.shape[-1]
        return self.pace * by_channel(self.forgets.mean(-1), D, 2)

    def retained(self) -> Tensor:
        return torch.exp(-self.pace[..., None] * self.changed(by_channel(self.forgets, self.v.shape[-1], 2)))

    def walk(self) -> Walk:
        D, N = self.v.shape[-1], self.k.shape[-1]
        S = self.start(D, N)
        for now in self.each():
            q, k, forgets = (by_channel(v, D) for v in (now.q, now.k, now.forgets))  # (B, D, N)
            pace, gain = now.pace[..., None], now.wrote[:, None]
            S = torch.exp(-pace * self.changed(forgets)) * S + pace * gain * k * now.v[..., None]
            yield (S * now.seen[:, None] * q).sum(-1), S, ()


class GlaMixer(Mixer):
    """Projections, gated linear attention, norm by head, gate, out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self._scan = kernels.chosen(gla_scan, config.scan_backend)
        mixer, (D, N), d = config.mixer, self.shape, config.d_model
        keys = mixer.heads * N
        self.in_proj = nn.Linear(d, 2 * keys + 2 * D, bias=False)
        self.low, self.high = nn.Linear(d, mixer.rank, bias=False), nn.Linear(mixer.rank, keys)
        self.norm = RMSNorm(mixer.value, eps=1e-5)
        self.out_proj = nn.Linear(D, d, bias=False)
        scale_by_depth(config.n_layer, self.out_proj.weight)

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[GlaCall, tuple[()]]:
        mixer, (D, N) = self.config, self.shape
        wide = torch.promote_types(self.norm.weight.dtype, torch.float32)
        keys = mixer.heads * N
        q, k, v, gate = self.in_proj(u).to(wide).split([keys, keys, D, D], dim=-1)
        q, k, raw = (x.unflatten(-1, (mixer.heads, N)) for x in (q * N**-0.5, k, self.high(self.low(u)).to(wide)))
        forgets = (-F.logsigmoid(raw) / mixer.temperature).clamp(max=MOST_DECAY)
        tensors = {"q": q, "k": k, "v": v, "gate": gate, "forgets": forgets, **gains(*u.shape[:2], v)}
        return GlaCall(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), ()

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """In chunks."""
        call, _ = self.prepare(u, state, t0, None, None)
        heads = (self.config.heads, self.config.value)
        h0 = state.memory.unflatten(1, heads) if state else None
        y, h = self._scan(-call.forgets, call.k, call.q, call.v.unflatten(-1, heads), h0)
        out = self.finish(normed_and_gated(self.norm, y.flatten(2), call.gate))
        return out, State(h.flatten(1, 2)) if want_state else None

    def recur(self, call: GlaCall) -> tuple[Tensor, Tensor, tuple[()]]:
        y, h, held = call.read_all()
        return normed_and_gated(self.norm, y, call.gate), h, held

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)

"""Gated DeltaNet (Yang et al. 2024, arXiv:2412.06464, equation 10); with negative eigenvalues Grazzi et al. 2024 (arXiv:2411.12537).

    S_t = alpha_t S_(t-1) (I - beta_t k_t k_t^T) + beta_t v_t k_t^T           for each head, S (P, N), |k_t| = 1
    alpha_t = exp(-exp(A_log) softplus(W_a u + bias)),   beta_t = sigmoid(W_b u), twice that with negative eigenvalues
    out = W_o (RMSNorm(S_t q_t / sqrt(N)) SiLU(W_g u))                        the norm by head

q, k and v run through a short convolution and SiLU, q and k are then of length 1. A step replaces, by the share beta, what is held for
its key: repeated content does not accumulate. alpha multiplies the old state before the erasure. A starts uniform in (0, 16), the step
sizes as Mamba's. The memory holds S as (H P, N). Glossary: `lgmamba.mixers`; H heads, P width of values, N of keys.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers import kernels
from lgmamba.mixers.contract import Mixer, State
from lgmamba.mixers.conv import causal_conv1d_silu
from lgmamba.mixers.heads import by_channel, normed_and_gated
from lgmamba.mixers.init import init_step_bias, scale_by_depth
from lgmamba.mixers.norm import RMSNorm
from lgmamba.mixers.paced import PacedCall, Walk, gains
from lgmamba.mixers.scans import delta_scan

A_RANGE = (1e-3, 16.0)
"""exp(A_log) at initialisation; the release draws from 0, whose logarithm is none."""


@dataclass(frozen=True, kw_only=True)
class GatedDeltaCall(PacedCall):
    """S_t = E S_(t-1) (I - b k k^T) + b v (wrote_t k)^T with E = exp(-pace_t change(forgets_t)), b = 1 - (1 - beta_t)^pace_t.

    Attributes:
        q, k: (B, L, H, N), of length 1, q divided by sqrt(N); v: (B, L, D), D = H P; gate: (B, L, D).
        forgets: (B, L, H) -ln alpha; beta: (B, L, H).
        positive: whether no beta is above 1; else the pace only masks.
    """

    OWN: ClassVar[tuple[str, ...]] = ("q", "k", "v", "gate", "forgets", "beta")
    LINEAR: ClassVar[bool] = True

    q: Tensor
    k: Tensor
    v: Tensor
    gate: Tensor
    forgets: Tensor
    beta: Tensor
    positive: bool

    def enter(self, g: Tensor) -> Self:
        return replace(self, v=self.v * g)

    def score(self) -> Tensor:
        return self.pace * by_channel(self.beta, self.v.shape[-1], 2)

    def retained(self) -> Tensor:
        return torch.exp(-self.pace[..., None] * self.changed(by_channel(self.forgets, self.v.shape[-1], 2)[..., None]))

    def walk(self) -> Walk:
        D, N = self.v.shape[-1], self.k.shape[-1]
        S = self.start(D, N)
        for now in self.each():
            q, k = by_channel(now.q, D), by_channel(now.k, D)  # (B, D, N)
            forgets, beta = by_channel(now.forgets, D)[..., None], by_channel(now.beta, D)
            left = 1 - beta
            if self.positive:  # log1p of -beta, away from its pole: a step of beta 1 leaves nothing at any pace but 0
                b = -torch.expm1(now.pace * torch.log(left.clamp(min=torch.finfo(left.dtype).tiny)))
                b = torch.where(now.pace == 1, beta, b)
            else:
                b = now.pace * beta
            S = torch.exp(-now.pace[..., None] * self.changed(forgets)) * S
            held = (S * k).sum(-1)
            S = S + (b * now.v)[..., None] * now.wrote[:, None] * k - (b * held)[..., None] * k
            yield (S * now.seen[:, None] * q).sum(-1), S, ()


class GatedDeltaMixer(Mixer):
    """Projections, short convolution, gated delta rule, norm by head, gate, out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.backend = kernels.own(config.scan_backend)
        self._scan = kernels.chosen(delta_scan, config.scan_backend)
        mixer, (D, N), d = config.mixer, self.shape, config.d_model
        H = mixer.heads
        self.mixed = 2 * H * N + D
        self.in_proj = nn.Linear(d, self.mixed + D + 2 * H, bias=False)
        self.conv1d = None
        if mixer.conv == "standard":
            self.conv1d = nn.Conv1d(
                self.mixed, self.mixed, mixer.d_conv, groups=self.mixed, padding=mixer.d_conv - 1, bias=False
            )
        self.dt_bias = nn.Parameter(torch.empty(H))
        init_step_bias(self.dt_bias, mixer.dt_min, mixer.dt_max)
        self.A_log = nn.Parameter(torch.empty(H).uniform_(*A_RANGE).log())
        self.norm = RMSNorm(mixer.value, eps=1e-5)
        self.out_proj = nn.Linear(D, d, bias=False)
        scale_by_depth(config.n_layer, self.out_proj.weight)

    def carries(self) -> tuple[tuple[int, ...], ...]:
        """The last W - 1 inputs of the short convolution, (B, W - 1, 2 H N + D)."""
        return () if self.conv1d is None else ((self.config.d_conv - 1, self.mixed),)

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[GatedDeltaCall, tuple[Tensor, ...]]:
        mixer, (D, N) = self.config, self.shape
        H = mixer.heads
        wide = torch.promote_types(self.dt_bias.dtype, torch.float32)
        qkv, gate, a, b = self.in_proj(u).split([self.mixed, D, H, H], dim=-1)
        if self.conv1d is None:
            qkv, carry = F.silu(qkv), ()
        else:
            before = state.carry[0] if state else None
            fused = self.backend in ("auto", "cuda")
            qkv, after = causal_conv1d_silu(qkv, self.conv1d.weight[:, 0], None, before, fused)
            carry = (after,)
        q, k, v = qkv.to(wide).split([H * N, H * N, D], dim=-1)
        q, k = (F.normalize(x.unflatten(-1, (H, N)), dim=-1) for x in (q, k))
        forgets = torch.exp(self.A_log.to(wide)) * F.softplus(a.to(wide) + self.dt_bias.to(wide))
        positive = mixer.eigenvalues == "positive"
        beta = torch.sigmoid(b.to(wide)) * (1 if positive else 2)
        tensors = {"q": q * N**-0.5, "k": k, "v": v, "gate": gate.to(wide), "forgets": forgets, "beta": beta}
        tensors |= {"positive": positive, **gains(*u.shape[:2], v)}
        return GatedDeltaCall(
            layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors
        ), carry

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """In chunks."""
        call, carry = self.prepare(u, state, t0, None, None)
        heads = (self.config.heads, self.config.value)
        h0 = state.memory.unflatten(1, heads) if state else None
        y, h = self._scan(-call.forgets, call.beta, call.k, call.q, call.v.unflatten(-1, heads), h0)
        out = self.finish(normed_and_gated(self.norm, y.flatten(2), call.gate))
        return out, State(h.flatten(1, 2), carry) if want_state else None

    def recur(self, call: GatedDeltaCall) -> tuple[Tensor, Tensor, tuple[()]]:
        y, h, held = call.read_all()
        return normed_and_gated(self.norm, y, call.gate), h, held

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)

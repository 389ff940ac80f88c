"""The time mixing of RWKV-7 (Peng et al. 2025, arXiv:2503.14456, section 4).

    x^c = u_t + mu_c (u_(t-1) - u_t)   for c in r, w, k, v, a, g                       token shift
    r, k, v = W x^c;   w = exp(-exp(-1/2) sigmoid(lora_w(x^w))),   a = sigmoid(lora_a(x^a)),   g = lora_g(x^g)
    kappa = normalise(k k_k) by head,   k~ = k (1 + (a - 1) k_a)
    S_t = S_(t-1) (diag(w_t) - kappa_t (a_t kappa_t)^T) + v_t k~_t^T                    for each head, S (N, N)
    out = W_o (g (GroupNorm(S_t r_t) + (r_t . (r_k k~_t)) v_t))                         the norm by head

lora(x) = W_2 f(W_1 x) + bias with f = tanh for w, the identity for a, and the sigmoid for g, which has no bias. Decays are within
exp(-exp(-1/2)) = 0.545 and 1. In the paper the values of later layers are mixed with those of the first: a mixer here sees its own layer
alone, so that this is left out. Weights start as in the release, layer by layer; the out-projection starts at zero.

Where time runs at another pace there is no closed form, as a step's transition is not symmetric: see `slow` of the configuration.
The memory holds S as (H N, N). Glossary: `lgmamba.mixers`; D = H N channels.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers import kernels
from lgmamba.mixers.contract import Mixer, State
from lgmamba.mixers.heads import by_channel
from lgmamba.mixers.paced import PacedCall, Walk, gains
from lgmamba.mixers.scans import dplr_scan

LEAST_LOG_DECAY = -math.exp(-0.5)
"""ln w is between it and 0."""
MIXED = ("r", "w", "k", "v", "a", "g")
"""What is projected from a mix of a step's input and that of the step before, in this order."""
SHIFTS = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}
"""Powers of their mixing weights at initialisation."""


@dataclass(frozen=True, kw_only=True)
class Rwkv7Call(PacedCall):
    """S_t = S_(t-1) (diag(exp(-pace_t change(forgets_t))) - kappa (b kappa)^T) + pace_t v (wrote_t k)^T, b = 1 - (1 - a_t)^pace_t.

    Attributes:
        r, k, kappa, removes, forgets: (B, L, H, N) receptance, k~, the unit key that is removed, a, and -ln w.
        v, gate: (B, L, D).
        bonus: (B, L, H) r . (r_k k~).
    """

    OWN: ClassVar[tuple[str, ...]] = ("r", "k", "kappa", "removes", "forgets", "v", "gate", "bonus")

    r: Tensor
    k: Tensor
    kappa: Tensor
    removes: Tensor
    forgets: Tensor
    v: Tensor
    gate: Tensor
    bonus: Tensor

    def enter(self, g: Tensor) -> Self:
        return replace(self, v=self.v * g)

    def score(self) -> Tensor:
        return self.pace * by_channel(self.forgets.mean(-1), self.v.shape[-1], 2)

    def retained(self) -> Tensor:
        return torch.exp(-self.pace[..., None] * self.changed(by_channel(self.forgets, self.v.shape[-1], 2)))

    def walk(self) -> Walk:
        D, N = self.v.shape[-1], self.k.shape[-1]
        S = self.start(D, N)
        for now in self.each():
            r, k, kappa, a, forgets = (by_channel(x, D) for x in (now.r, now.k, now.kappa, now.removes, now.forgets))
            pace = now.pace[..., None]
            left = (1 - a).clamp(min=torch.finfo(a.dtype).tiny)  # a step that removes all does so at any pace but 0
            removed = torch.where(pace == 1, a, -torch.expm1(pace * left.log()))
            held = (S * kappa).sum(-1, keepdim=True)
            S = torch.exp(-pace * self.changed(forgets)) * S - held * removed * kappa
            S = S + pace * now.wrote[:, None] * k * now.v[..., None]
            yield (S * now.seen[:, None] * r).sum(-1), S, ()


class Rwkv7Mixer(Mixer):
    """Token shift, projections, the recurrence, norm by head, bonus, gate, out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, by which weights start, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self._scan = kernels.chosen(dplr_scan, config.scan_backend)
        mixer, (D, N), d = config.mixer, self.shape, config.d_model
        self.mix = nn.Parameter(torch.empty(len(MIXED), d))
        self.r_proj, self.k_proj, self.v_proj = (nn.Linear(d, D, bias=False) for _ in range(3))
        self.w_low, self.w_high = nn.Linear(d, mixer.decay_rank, bias=False), nn.Linear(mixer.decay_rank, D)
        self.a_low, self.a_high = nn.Linear(d, mixer.removal_rank, bias=False), nn.Linear(mixer.removal_rank, D)
        self.g_low = nn.Linear(d, mixer.gate_rank, bias=False)
        self.g_high = nn.Linear(mixer.gate_rank, D, bias=False)
        self.k_k, self.k_a = nn.Parameter(torch.empty(D)), nn.Parameter(torch.full((D,), 1.02))
        self.r_k = nn.Parameter(torch.full((D // N, N), -0.04))
        self.norm = nn.GroupNorm(D // N, D, eps=N * 1e-5)
        self.out_proj = nn.Linear(D, d, bias=False)
        self._init(layer, config.n_layer)

    @torch.no_grad()
    def _init(self, layer: int, layers: int) -> None:
        """As in the release: by layer, from the first to the last, and by channel."""
        (D, N), d = self.shape, self.mix.shape[1]
        first, last = 1 - layer / layers, layer / max(1, layers - 1)  # 1 to almost 0, and 0 to 1
        for row, name in zip(self.mix, MIXED, strict=True):
            row.copy_(1 - (torch.arange(d) / d) ** (SHIFTS[name] * first))
        place = torch.arange(D) / max(1, D - 1)
        within = (torch.arange(D) % N - (N - 1) / 2) / max(0.5, (N - 1) / 2)
        zigzag = within * within.abs()
        self.w_high.bias.copy_(-5.5 + 6 * place ** (1 + last**0.3) + 2.5 * zigzag)
        self.a_high.bias.copy_(-0.19 + 0.3 * zigzag + 0.4 * (place - 0.5))
        self.k_k.copy_(0.71 - 0.1 * (place - 0.5))
        self.norm.weight.fill_(((layer + 1) / layers) ** 0.7)
        for low, high in ((self.w_low, self.w_high), (self.a_low, self.a_high), (self.g_low, self.g_high)):
            low.weight.zero_()
            nn.init.orthogonal_(high.weight, gain=0.1 * max(1.0, (high.out_features / high.in_features) ** 0.5))
        for weight, gain in ((self.r_proj.weight, 1.0), (self.k_proj.weight, 0.1), (self.v_proj.weight, 1.0)):
            nn.init.orthogonal_(weight, gain=gain)
        self.out_proj.weight.zero_()

    def carries(self) -> tuple[tuple[int, ...], ...]:
        """The last input, (1, d)."""
        return ((1, self.mix.shape[1]),)

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[Rwkv7Call, tuple[Tensor, ...]]:
        N = self.shape[1]
        wide = torch.promote_types(self.k_k.dtype, torch.float32)
        before = torch.zeros_like(u[:, :1]) if state is None else state.carry[0].to(u.dtype)
        away = torch.cat([before, u[:, :-1]], dim=1) - u
        x = {name: u + away * mix for name, mix in zip(MIXED, self.mix.to(u.dtype), strict=True)}
        r, k, v = (
            proj(x[name]).to(wide) for proj, name in ((self.r_proj, "r"), (self.k_proj, "k"), (self.v_proj, "v"))
        )
        forgets = -LEAST_LOG_DECAY * torch.sigmoid(self.w_high(torch.tanh(self.w_low(x["w"]))).to(wide))
        a = torch.sigmoid(self.a_high(self.a_low(x["a"])).to(wide))
        gate = self.g_high(torch.sigmoid(self.g_low(x["g"]))).to(wide)
        kappa = F.normalize((k * self.k_k).unflatten(-1, (-1, N)), dim=-1)
        r, k, a, forgets = (y.unflatten(-1, (-1, N)) for y in (r, k * (1 + (a - 1) * self.k_a), a, forgets))
        tensors = {"r": r, "k": k, "kappa": kappa, "removes": a, "forgets": forgets, "v": v, "gate": gate}
        tensors |= {"bonus": (r * self.r_k * k).sum(-1), **gains(*u.shape[:2], v)}
        return Rwkv7Call(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), (
            u[:, -1:],
        )

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """In chunks."""
        call, carry = self.prepare(u, state, t0, None, None)
        heads = (-1, self.shape[1])
        h0 = state.memory.unflatten(1, heads) if state else None
        found = self._scan(
            -call.forgets, call.kappa, call.removes * call.kappa, call.k, call.r, call.v.unflatten(-1, heads), h0
        )
        out = self.finish(self._normed(found[0].flatten(2), call))
        return out, State(found[1].flatten(1, 2), carry) if want_state else None

    def recur(self, call: Rwkv7Call) -> tuple[Tensor, Tensor, tuple[()]]:
        y, h, held = call.read_all()
        return self._normed(y, call), h, held

    def _normed(self, y: Tensor, call: Rwkv7Call) -> Tensor:
        """Norm by head, bonus and gate: (B, L, D) -> (B, L, D)."""
        norm = self.norm
        y = F.group_norm(y.flatten(0, 1), norm.num_groups, norm.weight, norm.bias, norm.eps).unflatten(0, y.shape[:2])
        return (y + by_channel(call.bonus, y.shape[-1], 2) * call.v) * call.gate

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)

"""The recurrent block of Hawk and Griffin with the RG-LRU (De et al. 2024, arXiv:2402.19427, section 2.4, equations 1 to 4).

    x = conv(W_x u);   r = sigmoid(W_a x + b_a),   i = sigmoid(W_i x + b_i)      both block-diagonal
    h_t = a_t h_(t-1) + sqrt(1 - a_t^2) (i_t x_t),   a_t = exp(-8 softplus(Lam) r_t)
    out = W_out (GeLU(W_z u) h_t)

That is Hawk. With `attention` every third layer is local attention instead, which is Griffin (section 2.3): here with as many keys as
queries, where the paper shares one, and with the SwiGLU of kind attention beside it, where its MLPs are layers of their own.

Where time runs s times as fast a_t becomes a_t^s and the factor of what is written follows by itself, so that the variance of the
state stays; `decay` changes a_t alone. The first step of a sequence is written like every other; with `first: one`, as in the released
code, it is not multiplied by the root, so that what it writes is that of many steps: this is so after every reset, at the start of every
window and of what is assembled, and of the first step that is not masked. Whether there was one is held.

Lam starts so that a^8 is uniform in [0.9, 0.999] at r = 1; the released code has a itself there.
Glossary: `lgmamba.mixers`; D channels, W width of the convolution.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Mixer, State
from lgmamba.mixers.conv import causal_conv1d
from lgmamba.mixers.init import scale_by_depth
from lgmamba.mixers.paced import PacedCall, Walk, gains
from lgmamba.mixers.scans import diag_scan

POWER = 8.0
"""c of equation 3."""
RING = (0.9, 0.999)
SMALLEST_SHARE = 1e-12
"""Below it the gradient of the square root is that of a step that is masked: none."""


def share_written(forgotten: Tensor) -> Tensor:
    """sqrt(1 - a^2) for -ln a >= 0, with a gradient that ends where nothing is forgotten."""
    share = -torch.expm1(-2 * forgotten)
    return share.clamp(min=SMALLEST_SHARE).sqrt() * (share > 0)


@dataclass(frozen=True, kw_only=True)
class RglruCall(PacedCall):
    """h_t = exp(-pace_t r_t change(rate)) h_(t-1) + wrote_t sqrt(1 - exp(-2 pace_t r_t rate)) x_t; or wrote_t x_t at the first.

    Attributes:
        x: (B, L, D) input times its gate i; z: (B, L, D) the other branch; r: (B, L, D) recurrence gate.
        rate: (D,) 8 softplus(Lam).
        whole: whether the first step that is not masked is written as it is; then held is (B, D), 1 where there was one, else 0.
    """

    OWN: ClassVar[tuple[str, ...]] = ("x", "z", "r")

    x: Tensor
    z: Tensor
    r: Tensor
    rate: Tensor
    whole: bool

    def enter(self, g: Tensor) -> Self:
        return replace(self, x=self.x * g)

    def score(self) -> Tensor:
        return self.pace * self.r

    def rates(self) -> Tensor:
        return self.changed(self.rate[:, None])

    def retained(self) -> Tensor:
        return torch.exp(-self.score()[..., None] * self.rates())

    def walk(self) -> Walk:
        rates, h = self.rates()[:, 0], self.start(len(self.rate), 1)[..., 0]
        begun = self.held[0] if self.held else torch.zeros_like(h)
        for now in self.each():
            score = now.pace * now.r
            share = share_written(score * self.rate)
            if self.whole:
                read = now.pace != 0
                share = torch.where(read & (begun == 0), torch.ones_like(share), share)
                begun = torch.where(read, torch.ones_like(begun), begun)
            h = torch.exp(-score * rates) * h + share * now.wrote * now.x
            yield now.seen * h * now.z, h[..., None], (begun,) if self.whole else ()


class RglruMixer(Mixer):
    """Two branches, of which one runs through a short convolution and the RG-LRU.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        mixer, D = config.mixer, self.shape[0]
        size = D // mixer.blocks
        self.in_proj = nn.Linear(config.d_model, 2 * D)
        self.conv1d = None
        if mixer.conv == "standard":
            self.conv1d = nn.Conv1d(D, D, mixer.d_conv, groups=D, padding=mixer.d_conv - 1)
        self.gate_weight = nn.Parameter(torch.randn(2, mixer.blocks, size, size) / size**0.5)
        self.gate_bias = nn.Parameter(torch.zeros(2, D))
        a = torch.empty(D).uniform_(*RING)
        forgotten = -a.log() / POWER  # a^8 is what exp(-8 softplus(Lam)) is at r = 1
        self.Lam = nn.Parameter(torch.log(torch.expm1(forgotten)))  # inverse of softplus
        self.out_proj = nn.Linear(D, config.d_model)
        scale_by_depth(config.n_layer, self.out_proj.weight)

    def carries(self) -> tuple[tuple[int, ...], ...]:
        """The last W - 1 inputs of the short convolution, (B, W - 1, D)."""
        return () if self.conv1d is None else ((self.config.d_conv - 1, self.shape[0]),)

    def holds(self) -> tuple[tuple[int, ...], ...]:
        """Whether a step was read in each channel, (B, D), where the first is another."""
        return (self.shape[:1],) if self.config.first == "one" else ()

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[RglruCall, tuple[Tensor, ...]]:
        x, z = self.in_proj(u).chunk(2, dim=-1)
        carry: tuple[Tensor, ...] = ()
        if self.conv1d is not None:
            before = state.carry[0] if state else None
            x, after = causal_conv1d(x, self.conv1d.weight[:, 0], self.conv1d.bias, before)
            carry = (after,)
        blocks = x.unflatten(-1, (self.config.blocks, -1))
        r, i = torch.sigmoid(
            torch.einsum("blki,gkij->gblkj", blocks, self.gate_weight).flatten(-2) + self.gate_bias[:, None, None]
        )
        wide = torch.promote_types(self.Lam.dtype, torch.float32)
        x, z, r = (v.to(wide) for v in (i * x, F.gelu(z), r))
        rate = POWER * F.softplus(self.Lam.to(wide))
        tensors = {"x": x, "z": z, "r": r, "rate": rate, "whole": self.config.first == "one", **gains(*u.shape[:2], x)}
        return RglruCall(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), carry

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """In parallel."""
        call, carry = self.prepare(u, state, t0, None, None)
        forgotten = call.r * call.rate
        share, held = share_written(forgotten), ()
        if call.whole:
            begun = call.held[0] if call.held else torch.zeros_like(share[:, 0])
            first = torch.where(begun == 0, torch.ones_like(begun), share[:, 0])
            share, held = torch.cat([first[:, None], share[:, 1:]], dim=1), (torch.ones_like(begun),)
        h = diag_scan(torch.exp(-forgotten), share * call.x, state.memory[..., 0] if state else None)
        return self.finish(h * call.z), State(h[:, -1, :, None], (*carry, *held)) if want_state else None

    def recur(self, call: RglruCall) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        return call.read_all()

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)

"""The linear recurrent unit (Orvieto et al. 2023, arXiv:2303.06349).

    h_t = lam h_(t-1) + gamma (B u_t),   lam = exp(-exp(nu) + i exp(theta))      (their eqs. 5 and 7; H complex numbers)
    y_t = Re(C h_t) + Dskip u_t
    out = (W_1 y) sigmoid(W_2 y),        y through GELU                          (the gated unit of their section 3.1)

|lam| starts uniform on the ring from r_min to r_max, the phase uniform in [0, 2 pi), gamma at sqrt(1 - |lam|^2) (lemma 3.2,
section 3.4), and is learned. Where time runs s times as fast, lam becomes lam^s, and gamma shrinks by sqrt((1 - |lam|^2s) / (1 - |lam|^2)),
which keeps the variance of the state. Without a hook the states are a convolution, by FFT. Glossary: `lgmamba.mixers`; H channels.
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
from lgmamba.mixers.scans import convolve


@dataclass(frozen=True, kw_only=True)
class LruCall(PacedCall):
    """h_t = exp(pace_t (-change(rate) + i angle)) h_(t-1) + wrote_t shrink(pace_t) x_t.

    Attributes:
        u: (B, L, d) input, for its way past the memory.
        x: (B, L, H) complex, gamma (B u).
        rate, angle: (H,), of lam as the layer has it.
        C_real, C_imag: (d, H); skip: (d,).
    """

    OWN: ClassVar[tuple[str, ...]] = ("u", "x")

    u: Tensor
    x: Tensor
    rate: Tensor
    angle: Tensor
    C_real: Tensor
    C_imag: Tensor
    skip: Tensor

    def look(self, h: Tensor, u: Tensor) -> Tensor:
        """Re(C h) + skip u: h (..., H), u (..., d)."""
        return F.linear(h.real, self.C_real) - F.linear(h.imag, self.C_imag) + self.skip * u

    def enter(self, g: Tensor) -> Self:
        return replace(self, x=self.x * g)

    def score(self) -> Tensor:
        return self.pace.expand(*self.shape, len(self.rate))

    def rates(self) -> Tensor:
        return self.changed(self.rate[:, None])

    def retained(self) -> Tensor:
        return torch.exp(-self.pace[..., None] * self.rates())

    def walk(self) -> Walk:
        rates, h = self.rates()[:, 0], self.start(len(self.rate), 1, dtype=self.x.dtype)[..., 0]
        whole = torch.expm1(-2 * self.rate)
        for now in self.each():
            share = torch.expm1(-2 * now.pace * self.rate) / whole
            write = share.clamp(min=SMALLEST_SHARE).sqrt() * (share > 0) * now.wrote * now.x
            h = torch.exp(torch.complex(-now.pace * rates, now.pace * self.angle)) * h + write
            yield self.look(now.seen * h, now.u), h[..., None], ()


SMALLEST_SHARE = 1e-12
"""Below it the gradient of the square root is that of a step that is masked: none."""


class LruMixer(Mixer):
    """Complex linear recurrence, and a gated unit.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    COMPLEX: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        d, H = config.d_model, self.shape[0]
        low, high = config.mixer.r_min, config.mixer.r_max
        squared = torch.rand(H) * (high**2 - low**2) + low**2
        self.nu = nn.Parameter((-0.5 * squared.log()).log())
        self.theta = nn.Parameter((2 * math.pi * torch.rand(H)).log())
        self.gamma_log = nn.Parameter((1 - squared).log() / 2)
        self.B_real, self.B_imag = (nn.Parameter(torch.randn(H, d) / (2 * d) ** 0.5) for _ in range(2))
        self.C_real, self.C_imag = (nn.Parameter(torch.randn(d, H) / H**0.5) for _ in range(2))
        self.D = nn.Parameter(torch.randn(d))
        self.out_proj = nn.Linear(d, 2 * d)
        scale_by_depth(config.n_layer, self.out_proj.weight[:d], self.out_proj.bias[:d])

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[LruCall, tuple[()]]:
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(torch.promote_types(self.nu.dtype, torch.float32))
            gamma = torch.exp(self.gamma_log)
            x = torch.complex(gamma * F.linear(u, self.B_real), gamma * F.linear(u, self.B_imag))
        tensors = {"u": u, "x": x, "rate": torch.exp(self.nu), "angle": torch.exp(self.theta), **gains(*u.shape[:2], u)}
        tensors |= {"C_real": self.C_real, "C_imag": self.C_imag, "skip": self.D}
        return LruCall(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), ()

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """As a convolution."""
        call, _ = self.prepare(u, state, t0, None, None)
        lags = torch.arange(u.shape[1] + 1, device=u.device)[:, None]
        powers = torch.exp(torch.complex(-lags * call.rate, lags * call.angle))  # (L + 1, H)
        h = convolve(call.x, powers[:-1])
        if state is not None:
            h = h + powers[1:] * state.memory[:, None, :, 0]
        with torch.autocast(u.device.type, enabled=False):
            y = call.look(h, call.u)
        return self.finish(y), State(h[:, -1, :, None]) if want_state else None

    def recur(self, call: LruCall) -> tuple[Tensor, Tensor, tuple[()]]:
        with torch.autocast(call.u.device.type, enabled=False):
            return call.read_all()

    def finish(self, y: Tensor) -> Tensor:
        value, gate = self.out_proj(F.gelu(y)).chunk(2, dim=-1)
        return value * torch.sigmoid(gate)

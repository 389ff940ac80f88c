"""S4D (Gu, Gupta, Goel & Re 2022, arXiv:2206.11893) inside Mamba's gated block, so that against Mamba only the selection differs.

    x, z = W_in u,   x through SiLU
    h_t = exp(dt A) h_(t-1) + (exp(dt A) - 1) / A x_t         A complex, Re A < 0, (D, N); dt (D,)      (zero-order hold, section 3.1)
    out = W_out ((2 Re(C h_t) + Dskip x_t) SiLU(z_t))                                                   (section 3.2)

A starts at -1/2 + i pi n (S4D-Lin, section 4.3), dt log-uniform, C normal with variance 1 as there. Without a hook the output is a
convolution with a kernel of the lag, by FFT. Glossary: `lgmamba.mixers`; D channels, N complex modes.
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
class S4dCall(PacedCall):
    """h_t = exp(pace_t dt (change(Re A) + i Im A)) h_(t-1) + wrote_t (exp(pace_t dt A) - 1) / A x_t.

    Attributes:
        x, z: (B, L, D) input after SiLU, and gate.
        A: (D, N) complex; dt: (D,).
        C: (D, N) complex; skip: (D,).
    """

    OWN: ClassVar[tuple[str, ...]] = ("x", "z")

    x: Tensor
    z: Tensor
    A: Tensor
    dt: Tensor
    C: Tensor
    skip: Tensor

    def enter(self, g: Tensor) -> Self:
        return replace(self, x=self.x * g)

    def score(self) -> Tensor:
        return self.pace.expand(*self.shape, len(self.dt))

    def rates(self) -> Tensor:
        return self.changed(-self.A.real * self.dt[:, None])

    def retained(self) -> Tensor:
        return torch.exp(-self.pace[..., None] * self.rates())

    def walk(self) -> Walk:
        own, rates = self.A * self.dt[:, None], self.rates()
        h = self.start(*self.A.shape, dtype=self.A.dtype)
        for now in self.each():
            pace = now.pace[..., None]
            write = torch.expm1(pace * own) / self.A * now.wrote[:, None] * now.x[..., None]
            h = torch.exp(pace * torch.complex(-rates, own.imag)) * h + write
            y = 2 * (self.C * now.seen[:, None] * h).real.sum(-1)
            yield (y + self.skip * now.x) * F.silu(now.z), h, ()


class S4dMixer(Mixer):
    """In-projection, S4D, gate, out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    COMPLEX: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        mixer, (D, N) = config.mixer, self.shape
        self.in_proj = nn.Linear(config.d_model, 2 * D, bias=False)
        u = torch.rand(D)
        self.log_dt = nn.Parameter(u * (math.log(mixer.dt_max) - math.log(mixer.dt_min)) + math.log(mixer.dt_min))
        self.A_log = nn.Parameter(torch.full((D, N), 0.5).log())
        self.A_imag = nn.Parameter(math.pi * torch.arange(N).repeat(D, 1).float())
        self.C_real, self.C_imag = (nn.Parameter(torch.randn(D, N) * 0.5**0.5) for _ in range(2))
        self.D = nn.Parameter(torch.ones(D))
        self.out_proj = nn.Linear(D, config.d_model, bias=False)
        scale_by_depth(config.n_layer, self.out_proj.weight)

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[S4dCall, tuple[()]]:
        x, z = self.in_proj(u).chunk(2, dim=-1)
        A_log, A_imag, C_real, C_imag, log_dt, skip, x, z = (
            v.to(torch.promote_types(v.dtype, torch.float32))
            for v in (self.A_log, self.A_imag, self.C_real, self.C_imag, self.log_dt, self.D, F.silu(x), z)
        )
        A, C = torch.complex(-torch.exp(A_log), A_imag), torch.complex(C_real, C_imag)
        tensors = {"x": x, "z": z, "A": A, "dt": torch.exp(log_dt), "C": C, "skip": skip, **gains(*u.shape[:2], x)}
        return S4dCall(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), ()

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """As a convolution."""
        call, _ = self.prepare(u, state, t0, None, None)
        x, C, L = call.x, call.C, u.shape[1]
        step = call.A * call.dt[:, None]
        write = torch.expm1(step) / call.A
        lags = torch.arange(L, device=u.device)[:, None, None]
        powers = torch.exp(lags * step)  # (L, D, N)
        y = convolve(x, 2 * (powers * (C * write)).real.sum(-1))
        if state is not None:
            read = powers * (C * torch.exp(step))
            h = state.memory.to(step.dtype)
            y = y + 2 * (
                torch.einsum("ldn,bdn->bld", read.real, h.real) - torch.einsum("ldn,bdn->bld", read.imag, h.imag)
            )
        out = self.out_proj((y + call.skip * x) * F.silu(call.z))
        return out, State(self._end(x, powers.flip(0) * write, step, state)) if want_state else None

    @staticmethod
    def _end(x: Tensor, left: Tensor, step: Tensor, state: State | None) -> Tensor:
        """The memory after the piece; left (L, D, N) is what of a step's write is there then."""
        h = torch.complex(*(torch.einsum("bld,ldn->bdn", x, part) for part in (left.real, left.imag)))
        return h if state is None else h + torch.exp(x.shape[1] * step) * state.memory

    def recur(self, call: S4dCall) -> tuple[Tensor, Tensor, tuple[()]]:
        return call.read_all()

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)

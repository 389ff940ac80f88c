"""The Mamba-1 mixer. Parameter names, shapes and initialisation are mamba_ssm's `Mamba`, so weights load both ways.

Glossary: `lgmamba.mixers`, `lgmamba.model`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Call, Factor, Mixer, State
from lgmamba.mixers.conv import causal_conv1d_silu
from lgmamba.mixers.init import init_step_bias, scale_by_depth
from lgmamba.mixers.mamba import fused
from lgmamba.mixers.mamba.window import windowed
from lgmamba.scan import selective_scan

WHOLE_TILE = 8
"""On a GPU the projection to dt, B and C gets rows of zeros up to a multiple of it: the products of rank + 2 N = 17 rows that
stacked trainings of the paper's model need run 8 times slower, as no kernel with wide loads fits."""


@dataclass(frozen=True, kw_only=True)
class MambaCall(Call):
    """What one layer is about to scan: h_t = exp(dt_t A) h_(t-1) + dt_t B_t x_t.

    Attributes:
        x, z: (B, L, D) scan input after convolution and SiLU, and gate (None in a call whose gate comes after the scan).
        dt: (B, L, D) step size after bias and softplus, > 0; like A and h0 float32 (float64 in a float64 model). 0 masks a step.
        A: (D, N) state matrix, < 0.
        Bmat, Cmat: (B, L, N).
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("x", "z", "dt", "Bmat", "Cmat")

    x: Tensor
    z: Tensor | None
    dt: Tensor
    A: Tensor
    Bmat: Tensor
    Cmat: Tensor

    @property
    def like(self) -> Tensor:
        return self.dt

    def slow(self, s: Factor) -> Self:
        return replace(self, dt=self.dt * (s.to(self.dt) if isinstance(s, Tensor) else s))

    def decay(self, s: Factor | Callable[[Tensor], Tensor]) -> Self:
        if callable(s):
            return replace(self, A=-s(-self.A))
        return replace(self, A=self.A * (s.to(self.A) if isinstance(s, Tensor) else s))

    def write(self, g: Tensor) -> Self:
        return replace(self, Bmat=self.Bmat * g)

    def enter(self, g: Tensor) -> Self:
        return replace(self, x=self.x * g)

    def read(self, g: Tensor) -> Self:
        return replace(self, Cmat=self.Cmat * g)

    def mask(self, m: Tensor) -> Self:
        return replace(self, dt=self.dt * m)

    def score(self) -> Tensor:
        return self.dt

    def rates(self) -> Tensor:
        return -self.A

    def retained(self) -> Tensor:
        return torch.exp(self.dt[..., None] * self.A)

    def states(self) -> Tensor:
        skip = torch.zeros_like(self.A[:, 0])
        return selective_scan(self.x, self.dt, self.A, self.Bmat, self.Cmat, skip, h0=self.h0, states_every=1)[1]

    def window(self, r: int, form: str) -> Self:
        return windowed(self, r, form)


class MambaMixer(Mixer):
    """Mamba-1: in-projection, short convolution, selective scan, gate, out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    Reference: Gu & Dao 2023 (arXiv:2312.00752), section 3.4 and figure 3; mamba_ssm `modules/mamba_simple.py`.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.backend = config.scan_backend
        mixer, (D, N) = config.mixer, self.shape
        projections = mixer.biases in ("projections", "all")
        R = mixer.rank(config)
        self.in_proj = nn.Linear(config.d_model, 2 * D, bias=projections)
        self.conv1d = None
        if mixer.conv not in ("none", "ones"):  # holds parameters
            self.conv1d = nn.Conv1d(
                D, D, mixer.d_conv, groups=D, padding=mixer.d_conv - 1, bias=mixer.biases in ("conv", "all")
            )
        self.x_proj = nn.Linear(D, R + 2 * N, bias=False)
        self.dt_proj = nn.Linear(R, D)
        self.A_log = nn.Parameter(torch.arange(1, N + 1, dtype=torch.float32).log().repeat(D, 1))
        self.D = nn.Parameter(torch.ones(D))
        self.out_proj = nn.Linear(D, config.d_model, bias=projections)
        self._init_dt(mixer.dt_min, mixer.dt_max)
        if projections:  # as mamba_ssm's `_init_weights`, here and below
            nn.init.zeros_(self.in_proj.bias)
            nn.init.zeros_(self.out_proj.bias)
        if mixer.out_init == "by_depth":
            scale_by_depth(config.n_layer, self.out_proj.weight)

    @torch.no_grad()
    def _init_dt(self, dt_min: float, dt_max: float) -> None:
        """softplus(bias) log-uniform in [dt_min, dt_max]; weights uniform in +-1/sqrt(R)."""
        bound = self.dt_proj.in_features**-0.5
        self.dt_proj.weight.uniform_(-bound, bound)
        init_step_bias(self.dt_proj.bias, dt_min, dt_max)

    def carries(self) -> tuple[tuple[int, ...], ...]:
        """The last W - 1 inputs of the short convolution, (B, W - 1, D)."""
        return () if self.config.conv == "none" else ((self.config.d_conv - 1, self.shape[0]),)

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """With bias and softplus of the step size inside the scan; on a CPU as one node of autograd, where that covers the form."""
        h0 = state.memory if state else None
        if dt_offset is None and self._is_plain() and fused.runs(u, self._weights(), h0):
            out, last = fused.mix(u, self._weights(), h0, want_state)
            return out, None if last is None else State(last)
        x, z, dt_raw, Bmat, Cmat, carry = self._project(u, state, dt_offset)
        options = {"return_last_state": want_state, "backend": self.backend}
        found = selective_scan(x, dt_raw, self._A(), Bmat, Cmat, self.D, z, self.dt_proj.bias, True, h0, **options)
        y, after = (found[0], State(found[1], carry)) if want_state else (found, None)
        return self.out_proj(y), after

    def _is_plain(self) -> bool:
        """Whether it is what `fused.mix` computes."""
        config = self.config
        whole = not (config.dropout and self.training) and self.in_proj.bias is None and self.out_proj.bias is None
        return config.conv == "none" and whole and self.backend in ("auto", "cpu")

    def _weights(self) -> tuple[Tensor, ...]:
        """As `fused.mix` takes them."""
        dt = self.dt_proj
        return self.in_proj.weight, self.x_proj.weight, dt.weight, dt.bias, self.A_log, self.D, self.out_proj.weight

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[MambaCall, tuple[Tensor, ...]]:
        x, z, dt_raw, Bmat, Cmat, carry = self._project(u, state, dt_offset)
        A = self._A()
        dt = F.softplus(dt_raw.to(A.dtype) + self.dt_proj.bias.to(A.dtype))
        tensors = {"x": x, "z": z, "dt": dt, "A": A, "Bmat": Bmat, "Cmat": Cmat}
        return MambaCall(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), carry

    def _A(self) -> Tensor:
        return -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32)))

    def _project(self, u: Tensor, state: State | None, dt_offset: Tensor | None) -> tuple:
        """x, z, step size before bias and softplus, Bmat, Cmat, and the carry."""
        xz = self.in_proj(u)
        if self.config.dropout and self.training:
            xz = F.dropout(xz, self.config.dropout)
        x, z = xz.chunk(2, dim=-1)  # (B, L, D) each
        x, carry = self._convolve(x, state)
        rank, N = self.dt_proj.in_features, self.shape[1]
        spare = -(rank + 2 * N) % WHOLE_TILE if x.is_cuda else 0
        weight = F.pad(self.x_proj.weight, (0, 0, 0, spare)) if spare else self.x_proj.weight
        dt_low, Bmat, Cmat, _ = F.linear(x, weight).split([rank, N, N, spare], dim=-1)
        dt_raw = F.linear(dt_low, self.dt_proj.weight)  # (B, L, D), the bias is added later
        return x, z, dt_raw if dt_offset is None else dt_raw + dt_offset, Bmat, Cmat, carry

    def taps(self) -> tuple[Tensor, Tensor | None]:
        """Weights of the short convolution (D, W), tap W - 1 on the current step, and its bias (D,) or None."""
        if self.conv1d is None:
            return torch.ones_like(self.D)[:, None].expand(-1, self.config.d_conv), None
        return self.conv1d.weight[:, 0], self.conv1d.bias

    def _convolve(self, x: Tensor, state: State | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the scan is given of x (B, L, D), as `ConvForm` says, and the carry."""
        form = self.config.conv
        if form == "none":
            return F.silu(x), ()
        before = state.carry[0] if state else None
        y, after = causal_conv1d_silu(x, *self.taps(), before, self.backend in ("auto", "cuda"))
        if form == "bypass":
            y = y + x
        elif form == "product":
            y = y * x
        return y, (after,)

    def recur(self, call: MambaCall) -> tuple[Tensor, Tensor, tuple[()]]:
        """y (B, L, D) after skip and gate, and h (B, D, N)."""
        options = {"h0": call.h0, "return_last_state": True, "backend": self.backend}
        return *selective_scan(call.x, call.dt, call.A, call.Bmat, call.Cmat, self.D, call.z, **options), ()

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)

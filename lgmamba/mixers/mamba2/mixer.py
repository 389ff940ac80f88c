"""Mamba-2 (Dao & Gu 2024, arXiv:2405.21060, section 7.1). Parameter names, shapes and initialisation are mamba_ssm's `Mamba2Simple`.

    z, x, B, C, dt = W_in u;   x, B, C through the short convolution and SiLU;   dt = softplus(dt + bias), one a head
    S_t = exp(dt_t A) S_(t-1) + dt_t x_t B_t^T,   A < 0, one number a head                       (their eq. 5 with a scalar A)
    out = W_out RMSNorm((S_t C_t + Dskip x_t) SiLU(z_t))

This is the selective scan of Mamba-1 whose step sizes and A are equal within a head, so that its call is Mamba-1's, and every verb
acts as there; where no hook acts, `ssd_scan` reads the sequence in chunks. The norm comes after the gate and hides a growing state
from the out-projection. With `post` its decays are those of `lgmamba.mixers.mamba2.post`.
Glossary: `lgmamba.mixers`; D channels, P of a head, H heads, N modes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers import kernels
from lgmamba.mixers.contract import Mixer, State
from lgmamba.mixers.conv import causal_conv1d_silu
from lgmamba.mixers.init import init_step_bias, scale_by_depth
from lgmamba.mixers.mamba.mixer import MambaCall
from lgmamba.mixers.mamba2.post import GeometricDecays, PostCall
from lgmamba.mixers.norm import RMSNorm
from lgmamba.mixers.scans import ssd_scan
from lgmamba.scan import selective_scan

A_RANGE = (1.0, 16.0)
"""-A at initialisation."""


class Mamba2Mixer(Mixer):
    """In-projection, short convolution, scan with one decay a head, gate, norm, out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.backend = kernels.own(config.scan_backend)
        self._scan = kernels.chosen(ssd_scan, config.scan_backend)
        mixer, (D, N) = config.mixer, self.shape
        H, post = D // mixer.head, mixer.post
        self.in_proj = nn.Linear(config.d_model, 2 * D + 2 * N + H, bias=False)
        self.conv1d = None
        if mixer.conv == "standard":
            self.conv1d = nn.Conv1d(D + 2 * N, D + 2 * N, mixer.d_conv, groups=D + 2 * N, padding=mixer.d_conv - 1)
        self.decays = None
        if post is None:
            self.dt_bias = nn.Parameter(torch.empty(H))
            init_step_bias(self.dt_bias, mixer.dt_min, mixer.dt_max)
            self.A_log = nn.Parameter(torch.empty(H).uniform_(*A_RANGE).log())
        else:
            self.register_buffer("dt_bias", torch.full((H,), math.log(math.expm1(post.dt))))  # inverse of softplus
            self.decays = GeometricDecays(post, H)
        self.D = nn.Parameter(torch.ones(H))
        self.norm = RMSNorm(D, eps=1e-5)
        self.out_proj = nn.Linear(D, config.d_model, bias=False)
        scale_by_depth(config.n_layer, self.out_proj.weight)

    def carries(self) -> tuple[tuple[int, ...], ...]:
        """The last W - 1 inputs of the short convolution, (B, W - 1, D + 2 N)."""
        D, N = self.shape
        return () if self.conv1d is None else ((self.config.d_conv - 1, D + 2 * N),)

    def _project(self, u: Tensor, state: State | None) -> tuple:
        """z, x (B, L, D), B, C (B, L, N), dt (B, L, H) after softplus, A (H,), and the carry."""
        D, N = self.shape
        z, xbc, dt = self.in_proj(u).split([D, D + 2 * N, self.dt_bias.shape[0]], dim=-1)
        if self.conv1d is None:
            xbc, carry = F.silu(xbc), ()
        else:
            before = state.carry[0] if state else None
            fused = self.backend in ("auto", "cuda")
            xbc, after = causal_conv1d_silu(xbc, self.conv1d.weight[:, 0], self.conv1d.bias, before, fused)
            carry = (after,)
        x, Bmat, Cmat = xbc.split([D, N, N], dim=-1)
        wide = torch.promote_types(self.dt_bias.dtype, torch.float32)
        dt = F.softplus(dt.to(wide) + self.dt_bias.to(wide))
        A = -(torch.exp(self.A_log.to(wide)) if self.decays is None else self.decays.rates(wide))
        return z, x, Bmat, Cmat, dt, A, carry

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """In chunks."""
        z, x, Bmat, Cmat, dt, A, carry = self._project(u, state)
        heads = x.unflatten(-1, (-1, self.config.head))  # (B, L, H, P)
        h0 = state.memory.unflatten(1, (-1, self.config.head)) if state else None
        rates = dt * A if self.decays is None else dt * A * self.decays.tapers(-A, t0, u.shape[1])
        y, h = self._scan(rates, Bmat[:, :, None], Cmat[:, :, None], dt[..., None] * heads, h0)
        y = (y + self.D[:, None] * heads).flatten(2).to(x.dtype) * F.silu(z)
        return self.finish(y), State(h.flatten(1, 2), carry) if want_state else None

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[MambaCall, tuple[Tensor, ...]]:
        z, x, Bmat, Cmat, dt, A, carry = self._project(u, state)
        taper = None if self.decays is None else self.decays.tapers(-A, t0, u.shape[1])
        dt, A = self._by_channel(dt), self._by_channel(A)[:, None].expand(-1, self.shape[1])
        tensors = {"x": x, "z": z, "dt": dt, "A": A, "Bmat": Bmat, "Cmat": Cmat}
        given = {"layer": self.layer, "t0": t0, "target_length": target_length, **self.before(state), **tensors}
        if taper is None:
            return MambaCall(**given), carry
        return PostCall(**given, taper=self._by_channel(taper).expand_as(dt)), carry

    def _by_channel(self, v: Tensor) -> Tensor:
        """(..., H) -> (..., D)."""
        return v[..., None].expand(*v.shape, self.config.head).flatten(-2)

    def recur(self, call: MambaCall) -> tuple[Tensor, Tensor, tuple[()]]:
        """y (B, L, D) after skip and gate, and h (B, D, N)."""
        options = {"h0": call.h0, "return_last_state": True, "backend": self.backend}
        skip = self._by_channel(self.D)
        if isinstance(call, PostCall):
            plain = call.untapered()
            found = selective_scan(
                plain.x, plain.dt, plain.A, plain.Bmat, plain.Cmat, torch.zeros_like(plain.A[:, 0]), **options
            )
            y = found[0] + skip * call.x
            return y if call.z is None else y * F.silu(call.z), found[1], ()
        return *selective_scan(call.x, call.dt, call.A, call.Bmat, call.Cmat, skip, call.z, **options), ()

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(self.norm(y))

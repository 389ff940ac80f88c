"""Mamba-3 with one input and one output a head, or several (arXiv:2603.15569, sections 3.1 to 3.4, appendix C).

    z, x, B, C, dd, aa, tr, th = W_in u;   B, C through RMSNorm, plus a bias for each head (ones at the start); no convolution
    dt = softplus(dd + bias),   A_t = -softplus(aa) <= -1e-4,   lam = sigmoid(tr),   phi_t = pi tanh(th) dt   for each head
    S_t = a_t R(-phi_t) (S_(t-1) + (1 - lam_t) dt_t W_(t-1)) + lam_t dt_t W_t,   W_t = x_t B_t^T,   a_t = exp(dt_t A_t)
    out = W_out ((S_t C_t + Dskip x_t) SiLU(z_t));   with out_norm RMSNorm(S_t C_t + Dskip x_t) by head in its place

With R inputs and outputs a head (MIMO, their appendix C) there are R of B and C, and of x and z by learned factors:

    W_t = sum_r (w_x[r] x_t) B_t[r]^T,   out = W_out sum_r w_o[r] (S_t C_t[r] + Dskip w_x[r] x_t) SiLU(w_z[r] z_t)

which is R^2 scans of one input and one output. w_x and w_o start at 1 / R, w_z at 1.

This is their proposition 1 (equations 5 and 6: a step also completes the write of the one before) in the frame that turns with the
state: they rotate B and C by the summed angles instead (proposition 4), with the same output, and so does the parallel form here.
Then no angle needs to be carried. R rotates pairs of neighbouring modes, of the first half of them.

For whole pieces one scan is enough: each step writes lam_t dt_t + (1 - lam_(t+1)) dt_(t+1), and what the next step was to add is
taken off again from its output. A masked step leaves W_(t-1) as it was, so that the next one completes the write of the last step
that was not masked. -A by softplus, as in the paper; the release has another function since. Initialisation of dt as in Mamba-2.
Glossary: `lgmamba.mixers`; D channels, P of a head, H heads, N modes, R inputs and outputs of a head.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers import kernels
from lgmamba.mixers.contract import Factor, Mixer, State
from lgmamba.mixers.heads import by_channel
from lgmamba.mixers.init import init_step_bias, scale_by_depth
from lgmamba.mixers.norm import RMSNorm
from lgmamba.mixers.paced import PacedCall, Walk, gains
from lgmamba.mixers.scans import ssd_scan

LEAST_RATE = 1e-4
"""-A is not below it."""
NORM_EPS = 1e-5
"""Added to the mean square of a head, as in the release."""


def rotated(v: Tensor, angles: Tensor) -> Tensor:
    """Pairs of neighbouring modes turned: v (..., N), angles (..., pairs), 2 pairs <= N."""
    first, rest = v.split([2 * angles.shape[-1], v.shape[-1] - 2 * angles.shape[-1]], dim=-1)
    even, odd = first[..., ::2], first[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)
    return torch.cat([turned, rest.expand(*turned.shape[:-1], -1)], dim=-1)


@dataclass(frozen=True, kw_only=True)
class Mamba3Call(PacedCall):
    """S_t = exp(-pace_t change(-dt_t A_t)) R S_(t-1) + wrote_t (a_t R (1 - lam_t) pace_t dt_t W_(t-1) + lam_t pace_t dt_t W_t).

    Attributes:
        x, z: (B, L, R, D) inputs and gates, by their factors.
        B, C: (B, L, R, H, N), not rotated.
        dt, rate, lam: (B, L, H) step size, -A, and the share that is written at once.
        turn: (B, L, pairs) pi tanh(th), the angle of a step of size 1.
        spin: (B, L, 1 or D) how fast phases turn: as the pace, unless they were left as they are; 0 masks a step.
        skip: (D,); out: (R, D) w_o, or None where R is 1; norm: (D,) weights of the norm by head, or None.
    """

    OWN: ClassVar[tuple[str, ...]] = ("x", "z", "B", "C", "dt", "rate", "lam", "turn", "spin")

    x: Tensor
    z: Tensor
    B: Tensor
    C: Tensor
    dt: Tensor
    rate: Tensor
    lam: Tensor
    turn: Tensor
    spin: Tensor
    skip: Tensor
    out: Tensor | None
    norm: Tensor | None

    def enter(self, g: Tensor) -> Self:
        return replace(self, x=self.x * (g[..., None, :] if g.ndim > 1 else g))

    def slow(self, s: Factor) -> Self:
        slowed = super().slow(s)
        return replace(slowed, spin=self.spin * (s.to(self.spin) if isinstance(s, Tensor) else s))

    def slow_rates(self, s: Factor) -> Self:
        return super().slow(s)

    def mask(self, m: Tensor) -> Self:
        return replace(super().mask(m), spin=self.spin * m)

    def score(self) -> Tensor:
        return self.pace * by_channel(self.dt * self.rate, self.x.shape[-1], 2)

    def retained(self) -> Tensor:
        rates = by_channel(self.dt * self.rate, self.x.shape[-1], 2)
        return torch.exp(-self.pace[..., None] * self.changed(rates[..., None]))

    def walk(self) -> Walk:
        D, N = self.x.shape[-1], self.B.shape[-1]
        S = self.start(D, N)
        pending = self.held[0] if self.held else torch.zeros_like(S)
        for now in self.each():
            dt, rate, lam = (by_channel(v, D) for v in (now.dt, now.rate, now.lam))
            B, C = by_channel(now.B, D, 2), by_channel(now.C, D, 2)  # (B, R, D, N)
            step = (now.pace * dt)[..., None]  # (B, D, 1)
            left = torch.exp(-now.pace[..., None] * self.changed((dt * rate)[..., None]))
            wrote, turn = (now.x[..., None] * B).sum(1), -(now.spin * dt)[..., None] * now.turn[:, None]
            late = torch.exp(-step * rate[..., None]) * (1 - lam[..., None]) * step * rotated(pending, turn)
            S = left * rotated(S, turn) + now.wrote[:, None] * (late + lam[..., None] * step * wrote)
            pending = torch.where(now.pace[..., None] == 0, pending, wrote)
            y = (S[:, None] * now.seen[:, None, None] * C).sum(-1) + self.skip * now.x
            yield self.gated(y, now.z), S, (pending,)

    def gated(self, y: Tensor, z: Tensor) -> Tensor:
        """Normed where the layer norms, gated, and outputs of a head as one: (..., R, D) -> (..., D)."""
        if self.norm is not None:
            heads = y.unflatten(-1, (self.dt.shape[-1], -1))
            y = (heads * torch.rsqrt(heads.square().mean(-1, keepdim=True) + NORM_EPS)).flatten(-2) * self.norm
        y = y * F.silu(z)
        return y[..., 0, :] if self.out is None else (y * self.out).sum(-2)


class Mamba3Mixer(Mixer):
    """In-projection, scan, gate, out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self._scan = kernels.chosen(ssd_scan, config.scan_backend)
        mixer, (D, N) = config.mixer, self.shape
        H, R = D // mixer.head, mixer.rank
        self.sizes = [D, D, R * N, R * N, H, H, H, mixer.pairs]
        self.in_proj = nn.Linear(config.d_model, sum(self.sizes), bias=False)
        self.norm_B, self.norm_C = RMSNorm(N, eps=1e-5), RMSNorm(N, eps=1e-5)
        ones = (H, N) if R == 1 else (R, H, N)
        self.bias_B, self.bias_C = nn.Parameter(torch.ones(ones)), nn.Parameter(torch.ones(ones))
        self.w_x = self.w_z = self.w_o = None
        if R > 1:
            self.w_x, self.w_o = (nn.Parameter(torch.full((R, D), 1 / R)) for _ in range(2))
            self.w_z = nn.Parameter(torch.ones(R, D))
        self.dt_bias = nn.Parameter(torch.empty(H))
        init_step_bias(self.dt_bias, mixer.dt_min, mixer.dt_max)
        self.D = nn.Parameter(torch.ones(H))
        self.norm_out = nn.Parameter(torch.ones(D)) if mixer.out_norm == "pre_gate_grouped" else None
        self.out_proj = nn.Linear(D, config.d_model, bias=False)
        scale_by_depth(config.n_layer, self.out_proj.weight)

    def holds(self) -> tuple[tuple[int, ...], ...]:
        """What the last step wrote and the next one completes, (D, N)."""
        return (self.shape,)

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[Mamba3Call, tuple[()]]:
        wide = torch.promote_types(self.dt_bias.dtype, torch.float32)
        z, x, B, C, dd, aa, tr, th = self.in_proj(u).to(wide).split(self.sizes, dim=-1)
        B, C = (v.unflatten(-1, (-1, self.shape[1])) for v in (B, C))  # (B, L, R, N)
        B = self.norm_B(B)[..., None, :] + self.bias_B  # (B, L, R, H, N)
        C = self.norm_C(C)[..., None, :] + self.bias_C
        x, z = x[:, :, None], z[:, :, None]
        if self.w_x is not None:
            x, z = x * self.w_x, z * self.w_z
        tensors = {"x": x, "z": z, "B": B, "C": C, "dt": F.softplus(dd + self.dt_bias), "lam": torch.sigmoid(tr)}
        tensors |= {"rate": F.softplus(aa).clamp(min=LEAST_RATE), "turn": math.pi * torch.tanh(th)}
        tensors |= {
            "skip": by_channel(self.D, self.shape[0], 0),
            "out": self.w_o,
            "norm": self.norm_out,
            **gains(*u.shape[:2], x),
        }
        tensors["spin"] = tensors["pace"]
        return Mamba3Call(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), ()

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """By scans in chunks of B and C rotated by the angles since the start of the piece: one for each input and output of a head."""
        call, _ = self.prepare(u, state, t0, None, None)
        R = self.config.rank
        x = call.x.unflatten(-1, (-1, self.config.head))  # (B, L, R, H, P)
        angles = (call.dt[..., None] * call.turn[:, :, None]).cumsum(1)[:, :, None]  # (B, L, 1, H, pairs)
        k, q = rotated(call.B, angles), rotated(call.C, angles)
        late = (1 - call.lam) * call.dt
        later = torch.cat([late[:, 1:], torch.zeros_like(late[:, :1])], dim=1)[..., None]  # (B, L, H, 1)
        h0 = None
        if state is not None:
            memory, pending = (v.unflatten(1, (-1, self.config.head)) for v in (state.memory, state.carry[0]))
            h0 = memory + late[:, 0, :, None, None] * pending
        scale = (call.lam * call.dt)[..., None] + later
        forgets, ys, ends = call.dt * call.rate, [], []
        for out in range(R):
            parts = []
            for i in range(R):
                y, h = self._scan(-forgets, k[:, :, i], q[:, :, out], scale * x[:, :, i], h0 if i == 0 else None)
                parts.append(y - later * (q[:, :, out] * k[:, :, i]).sum(-1, keepdim=True) * x[:, :, i])
                ends += [h] if out == 0 else []  # what an input has written, whoever reads it
            ys.append(sum(parts[1:], parts[0]).flatten(2))
        y = torch.stack(ys, dim=2) + call.skip * call.x  # (B, L, R, D)
        result = self.finish(call.gated(y, call.z))
        if not want_state:
            return result, None
        memory = rotated(sum(ends[1:], ends[0]), -angles[:, -1, 0, :, None]).flatten(1, 2)
        wrote = (x[:, -1, ..., None] * call.B[:, -1, :, :, None]).sum(1).flatten(1, 2)
        return result, State(memory, (wrote,))

    def recur(self, call: Mamba3Call) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        return call.read_all()

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)

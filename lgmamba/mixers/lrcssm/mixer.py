"""LrcSSM (Farsang et al. 2025, arXiv:2505.21717): a liquid-resistance liquid-capacitance cell whose state weights are diagonal.

    s = sigmoid(sigma_u (u_t - mu_u)),   q = sigmoid(sigma (h_(t-1) - mu))
    f = g + W_f s + w_f q,   z = g + W_z s + w_z q,   eps = sigmoid(e h_(t-1) + b) dt,   dt = 1
    h_t = h_(t-1) + eps (-sigmoid(f) h_(t-1) + v tanh(z)),        out = W_out h_t + b_out

All that meets h is element by element, so that the Jacobian of a step is diagonal. It retains 1 - eps sigmoid(f), in (0, 1), and its
state is bounded. Where time runs s times as fast dt is s: its own Euler step. Weights start uniform within 1 / sqrt(n), so that a step
retains some 3/4 at the start: with `memory` the bias b is chosen instead.

The states are found one after the other, without a graph; a linearisation around them (their section 3.2 solves by such ones in
turn) then gives the gradients of all steps at once, by `diag_scan`. The elastance is the asymmetric one, the
release's default; complex state weights are left out. Glossary: `lgmamba.mixers`; n units.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Mixer, State
from lgmamba.mixers.init import scale_by_depth
from lgmamba.mixers.paced import PacedCall, Walk, gains
from lgmamba.mixers.scans import diag_scan


@dataclass(frozen=True, kw_only=True)
class LrcssmCall(PacedCall):
    """h_t = h_(t-1) + pace_t eps (-change(sigmoid(f)) h_(t-1) + wrote_t v tanh(z)).

    Attributes:
        f, z: (B, L, n) what the input gives to both, with g.
        step: the layer's own, f, z (..., n) and h (..., n) -> elastance, leak and write, (..., n).
    """

    OWN: ClassVar[tuple[str, ...]] = ("f", "z")
    LINEAR: ClassVar[bool] = False

    f: Tensor
    z: Tensor
    step: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

    enter = PacedCall.write

    def retained(self) -> Tensor:
        h = self.states()[..., 0]
        before = torch.cat([self.start(h.shape[-1], 1)[:, None, :, 0], h[:, :-1]], dim=1)
        eps, leak, _ = self.step(self.f, self.z, before)
        return (1 - self.pace * eps * self.changed(leak[..., None])[..., 0])[..., None]

    def walk(self) -> Walk:
        h = self.start(self.f.shape[-1], 1)[..., 0]
        for now in self.each():
            eps, leak, write = self.step(now.f, now.z, h)
            h = h + now.pace * eps * (now.wrote * write - self.changed(leak[..., None])[..., 0] * h)
            yield now.seen * h, h[..., None], ()


class LrcssmMixer(Mixer):
    """Sensory projections, the cell, and a read-out.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        n, d = self.shape[0], config.d_model

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(-(n**-0.5), n**-0.5))

        self.mu_u, self.sigma_u = drawn(d), drawn(d)
        self.W_f, self.W_z = drawn(n, d), drawn(n, d)
        self.mu, self.sigma, self.w_f, self.w_z, self.g, self.v, self.e, self.b = (drawn(n) for _ in range(8))
        self.out_proj = nn.Linear(n, d)
        memory = config.mixer.memory
        if memory:  # eps sigmoid(f) = 1 / memory at f = 0 and h = 0
            with torch.no_grad():
                self.b.fill_(-math.log(memory / 2 - 1))
        scale_by_depth(config.n_layer, self.out_proj.weight, self.out_proj.bias)

    def _step(self, f: Tensor, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = torch.sigmoid(self.sigma * (h - self.mu))
        leak, write = torch.sigmoid(f + self.w_f * q), self.v * torch.tanh(z + self.w_z * q)
        return torch.sigmoid(self.e * h + self.b), leak, write

    def _slope(self, f: Tensor, z: Tensor, h: Tensor) -> Tensor:
        """dh_t / dh_(t-1) of a step, (B, L, n)."""
        eps, leak, write = self._step(f, z, h)
        q = torch.sigmoid(self.sigma * (h - self.mu))
        dq = self.sigma * q * (1 - q)
        d_leak = leak * (1 - leak) * self.w_f * dq
        d_write = self.v * (1 - torch.tanh(z + self.w_z * q).square()) * self.w_z * dq
        return 1 + self.e * eps * (1 - eps) * (write - leak * h) + eps * (d_write - d_leak * h - leak)

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[LrcssmCall, tuple[()]]:
        with torch.autocast(u.device.type, enabled=False):  # the gates of a recurrence, in the precision of its weights
            s = torch.sigmoid(self.sigma_u * (u.to(self.g.dtype) - self.mu_u))
            tensors = {"f": self.g + F.linear(s, self.W_f), "z": self.g + F.linear(s, self.W_z), "step": self._step}
        tensors |= gains(*u.shape[:2], self.g)
        return LrcssmCall(layer=self.layer, t0=t0, target_length=target_length, **self.before(state), **tensors), ()

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        """Step by step, and gradients in parallel."""
        call, _ = self.prepare(u, state, t0, None, None)
        first = call.start(self.shape[0], 1)[..., 0]
        with torch.no_grad():
            h = call.states()[..., 0]
            before = torch.cat([first[:, None], h[:, :-1]], dim=1)
        if torch.is_grad_enabled():
            with torch.no_grad():
                slope = self._slope(call.f, call.z, before)
            eps, leak, write = self._step(call.f, call.z, before)
            h = diag_scan(slope, before + eps * (write - leak * before) - slope * before, first)
        return self.finish(h), State(h[:, -1, :, None]) if want_state else None

    def recur(self, call: LrcssmCall) -> tuple[Tensor, Tensor, tuple[()]]:
        return call.read_all()

    def finish(self, y: Tensor) -> Tensor:
        return self.out_proj(y)

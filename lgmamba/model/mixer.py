"""The Mamba-1 mixer. Parameter names, shapes and initialisation are mamba_ssm's `Mamba`, so weights load both ways.

Glossary: `lgmamba.model`.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.model.conv import causal_conv1d_silu
from lgmamba.model.plan import PER_STEP, Memory, Plan, ScanCall, gather_steps
from lgmamba.scan import selective_scan

DT_INIT_FLOOR = 1e-4
"""Smallest step size at initialisation, as in mamba_ssm."""


@dataclass(frozen=True)
class SelectiveScanState:
    """What one mixer carries from one piece of a sequence to the next.

    Attributes:
        conv: (B, W - 1, D) the last inputs of the short convolution.
        h: (B, D, N) state of the recurrence, float32 (float64 in a float64 model).
        memory: what a plan's scan carries besides, or None.
    """

    conv: Tensor
    h: Tensor
    memory: Memory | None = None


class MambaMixer(nn.Module):
    """Mamba-1: in-projection, short convolution, selective scan, gate, out-projection.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to plans.
    Reference: Gu & Dao 2023 (arXiv:2312.00752), section 3.4 and figure 3; mamba_ssm `modules/mamba_simple.py`.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.backend = config.scan_backend
        D, N, R = config.d_inner, config.mixer.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * D, bias=False)
        self.conv1d = None
        if config.mixer.conv == "standard":
            self.conv1d = nn.Conv1d(
                D, D, config.mixer.d_conv, groups=D, padding=config.mixer.d_conv - 1
            )  # holds parameters
        self.x_proj = nn.Linear(D, R + 2 * N, bias=False)
        self.dt_proj = nn.Linear(R, D)
        self.A_log = nn.Parameter(torch.arange(1, N + 1, dtype=torch.float32).log().repeat(D, 1))
        self.D = nn.Parameter(torch.ones(D))
        self.out_proj = nn.Linear(D, config.d_model, bias=False)
        self._init_dt(config.mixer.dt_min, config.mixer.dt_max)

    @torch.no_grad()
    def _init_dt(self, dt_min: float, dt_max: float) -> None:
        """softplus(bias) log-uniform in [dt_min, dt_max]; weights uniform in +-1/sqrt(R)."""
        bound = self.dt_proj.in_features**-0.5
        self.dt_proj.weight.uniform_(-bound, bound)
        u = torch.rand(self.dt_proj.out_features)
        dt = torch.exp(u * (math.log(dt_max) - math.log(dt_min)) + math.log(dt_min)).clamp(min=DT_INIT_FLOOR)
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus

    def forward(
        self,
        u: Tensor,
        state: SelectiveScanState | None = None,
        t0: int = 0,
        dt_offset: Tensor | None = None,
        dt_factor: Tensor | None = None,
        told: Tensor | None = None,
        plan: Plan | None = None,
        want_state: bool = True,
    ) -> tuple[Tensor, SelectiveScanState | None, Tensor | None]:
        """Mix one piece of a sequence; a piece may be a single step.

        Args:
            u: (B, L, d).
            state: carry from the piece before, or None at the start.
            t0: steps read before this piece.
            dt_offset: (B, 1 or L, D) added to the step size before softplus.
            dt_factor: (B, L, 1) the step size after softplus is multiplied by it.
            told: (B,) length told to the model, for plans only.
            plan: see `lgmamba.model.plan`.
            want_state: whether the carry is needed; training on whole sequences spares the scan its end state.
        Returns:
            out (B, K, d), the new carry (None if it is not wanted), and the positions kept (B, K), or None where all are (K = L).
        """
        x, z = self.in_proj(u).chunk(2, dim=-1)  # (B, L, D) each
        x, conv = self._convolve(x, state.conv if state else None)
        rank, N = self.dt_proj.in_features, self.A_log.shape[1]
        dt_low, Bmat, Cmat = self.x_proj(x).split([rank, N, N], dim=-1)
        dt_raw = F.linear(dt_low, self.dt_proj.weight)  # (B, L, D), the bias is added inside the scan
        if dt_offset is not None:
            dt_raw = dt_raw + dt_offset
        wide = torch.promote_types(self.A_log.dtype, torch.float32)
        A = -torch.exp(self.A_log.to(wide))
        h0 = state.h if state else None
        if plan is None and dt_factor is None:
            options = {"return_last_state": want_state, "backend": self.backend}
            found = selective_scan(x, dt_raw, A, Bmat, Cmat, self.D, z, self.dt_proj.bias, True, h0, **options)
            y, carry = (found[0], SelectiveScanState(conv, found[1])) if want_state else (found, None)
            return self.out_proj(y), carry, None
        dt = F.softplus(dt_raw.to(wide) + self.dt_proj.bias.to(wide))
        if dt_factor is not None:
            dt = dt * dt_factor.to(wide)
        call = ScanCall(self.layer, t0, told, x, z, dt, A, Bmat, Cmat, h0, memory=state.memory if state else None)
        call = call if plan is None else plan(call)
        y, h, memory = self._scan(call)
        return self.out_proj(y), SelectiveScanState(conv, h, memory), call.keep

    def _convolve(self, x: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor]:
        """Short convolution and SiLU, and its carry; without a convolution an empty one."""
        if self.conv1d is None:
            return F.silu(x), x[:, :0]
        fused = self.backend in ("auto", "cuda")
        return causal_conv1d_silu(x, self.conv1d.weight[:, 0], self.conv1d.bias, carry, fused)

    def _scan(self, call: ScanCall) -> tuple[Tensor, Tensor, Memory | None]:
        if call.keep is not None:
            kept = {name: gather_steps(getattr(call, name), call.keep) for name in PER_STEP}
            call = replace(call, keep=None, **kept)
        y, h, memory = call.scan(call, self._ordinary) if call.scan else (*self._ordinary(call), None)
        return y, call.post_state(h) if call.post_state else h, memory

    def _ordinary(self, call: ScanCall) -> tuple[Tensor, Tensor]:
        options = {"h0": call.h0, "return_last_state": True, "backend": self.backend}
        return selective_scan(call.x, call.dt, call.A, call.Bmat, call.Cmat, self.D, call.z, **options)

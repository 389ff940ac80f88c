"""Decays of Mamba-2 after PoST (Cao 2026, arXiv:2604.07658): geometric over the heads, and falling with the step.

    rate_0 = exp(base),   rate_k = rate_(k-1) exp(softplus(gap_k))                    heads in order, slowest first (section 4.1)
    S_t = exp(-dt_t rate_k t^(-alpha_k)) S_(t-1) + dt_t x_t B_t^T                     alpha_k of `lgmamba.mixers.taper` (definition 4.5)

At the start rate_k dt is spread evenly on a log scale from 1 / L to 1, L the training length; the bias of the step sizes is one number
and not trained, so that the spectrum is that of the rates. What is written is not tapered. Steps t count from the start of the
sequence; a length token before it is read as step 1 is. Names of parameters are the release's. Glossary: `lgmamba.mixers`, H heads.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.mixers.mamba.mixer import MambaCall
from lgmamba.mixers.mamba2.config import PostConfig
from lgmamba.mixers.taper import exponents
from lgmamba.scan import selective_scan


class GeometricDecays(nn.Module):
    """Rates of H heads, ascending, and their exponents."""

    def __init__(self, config: PostConfig, heads: int):
        super().__init__()
        self.length = config.length
        logs = torch.linspace(-math.log(config.length), 0.0, heads) - math.log(config.dt)
        self.A_log_base = nn.Parameter(logs[0].clone())
        self.A_log_deltas = nn.Parameter(torch.log(torch.expm1(logs.diff())))  # inverse of softplus

    def rates(self, dtype: torch.dtype) -> Tensor:
        """(H,), > 0."""
        gaps = F.softplus(self.A_log_deltas.to(dtype)).cumsum(0)
        return torch.exp(self.A_log_base.to(dtype) + F.pad(gaps, (1, 0)))

    def tapers(self, rates: Tensor, t0: int, steps: int) -> Tensor:
        """t^-alpha of the steps t0 + 1 .. t0 + steps, (steps, H)."""
        t = torch.arange(t0 + 1, t0 + steps + 1, device=rates.device, dtype=rates.dtype).clamp(min=1)
        return torch.exp(-t.log()[:, None] * exponents(rates, self.length))


@dataclass(frozen=True, kw_only=True)
class PostCall(MambaCall):
    """h_t = exp(taper_t dt_t A) h_(t-1) + dt_t B_t x_t.

    Attributes:
        taper: (B, L, D) t^-alpha, of the channel's head; belongs to the number of the step.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = (*MambaCall.PER_STEP, "taper")

    taper: Tensor

    def untapered(self) -> Self:
        """The same as a plain scan: with steps dt taper and inputs x / taper."""
        return replace(
            self, x=(self.x / self.taper).to(self.x.dtype), dt=self.dt * self.taper, taper=torch.ones_like(self.taper)
        )

    def retained(self) -> Tensor:
        return torch.exp((self.dt * self.taper)[..., None] * self.A)

    def states(self) -> Tensor:
        plain, skip = self.untapered(), torch.zeros_like(self.A[:, 0])
        scanned = (plain.x, plain.dt, plain.A, plain.Bmat, plain.Cmat)
        return selective_scan(*scanned, skip, h0=self.h0, states_every=1)[1]

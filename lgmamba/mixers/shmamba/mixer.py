"""Mamba-1 between the exponential and the logarithmic map of a Poincare ball at 0.

    exp(u) = tanh(sqrt(c) |u|) u / (sqrt(c) |u|),   log(y) = artanh(sqrt(c) |y|) y / (sqrt(c) |y|),   c = softplus(curvature)
    out = log(Mamba(exp(u)))

with sqrt(c) |y| at most 1 - 1e-3. What is SHMamba's (Yang et al. 2024, arXiv:2406.09833): features in a Poincare ball of learned
curvature before a state space model. What is not: its features of audio, video and question, their fusion and alignment, which are
for several modes of input and no mixer; and its equations, which were not at hand. Maps are per token: it is causal, its state is
Mamba-1's, and so are its verbs. As inputs are bounded and the recurrence is the same, no effect beyond the training length is expected.
Glossary: `lgmamba.mixers`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import State
from lgmamba.mixers.mamba.mixer import MambaCall, MambaMixer

EDGE = 1 - 1e-3
"""Largest sqrt(c) |y|."""
SMALLEST_NORM = 1e-12


class ShmambaMixer(MambaMixer):
    """Map, Mamba-1, map.

    Args:
        config: sizes, see `ModelConfig`.
        layer: number of the layer, passed on to hooks.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.curvature = nn.Parameter(torch.tensor(math.log(math.expm1(1.0))))  # c = 1

    def _sized(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """v in full precision, its norm (..., 1), and sqrt(c)."""
        v = v.to(torch.promote_types(v.dtype, torch.float32))
        return v, v.norm(dim=-1, keepdim=True).clamp(min=SMALLEST_NORM), F.softplus(self.curvature).sqrt()

    def into_ball(self, u: Tensor) -> Tensor:
        """exp: (..., d) -> (..., d)."""
        v, norm, root = self._sized(u)
        return (torch.tanh(root * norm) / (root * norm) * v).to(u.dtype)

    def out_of_ball(self, y: Tensor) -> Tensor:
        """log: (..., d) -> (..., d)."""
        v, norm, root = self._sized(y)
        return (torch.atanh((root * norm).clamp(max=EDGE)) / (root * norm) * v).to(y.dtype)

    def fast(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, want_state: bool
    ) -> tuple[Tensor, State | None]:
        y, after = super().fast(self.into_ball(u), state, t0, dt_offset, want_state)
        return self.out_of_ball(y), after

    def prepare(
        self, u: Tensor, state: State | None, t0: int, dt_offset: Tensor | None, target_length: Tensor | None
    ) -> tuple[MambaCall, tuple[Tensor, ...]]:
        return super().prepare(self.into_ball(u), state, t0, dt_offset, target_length)

    def finish(self, y: Tensor) -> Tensor:
        return self.out_of_ball(super().finish(y))

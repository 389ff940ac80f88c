"""Heads, whose channels share keys and decays, in a memory that is kept by channel. Glossary: `lgmamba.mixers`; H heads."""

import torch.nn.functional as F
from torch import Tensor, nn


def by_channel(v: Tensor, channels: int, axis: int = 1) -> Tensor:
    """What each head has, (..., H, ...) with H at `axis`, for each of its neighbouring channels: (..., channels, ...)."""
    H = v.shape[axis]
    shape = [*v.shape[: axis + 1], channels // H, *v.shape[axis + 1 :]]
    return v.unsqueeze(axis + 1).expand(shape).flatten(axis, axis + 1)


def normed_and_gated(norm: nn.RMSNorm, y: Tensor, gate: Tensor) -> Tensor:
    """RMSNorm of every head, then SiLU gate: y, gate (B, L, D) -> (B, L, D)."""
    return norm(y.unflatten(-1, (-1, norm.weight.shape[-1]))).flatten(-2) * F.silu(gate)

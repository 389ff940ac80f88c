"""Mamba's short causal convolution with its SiLU, in (B, L, D) layout, with a carry between pieces of a sequence."""

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_conv1d_silu(x: Tensor, weight: Tensor, bias: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution over the steps, then SiLU.

    Args:
        x: (B, L, D).
        weight: (D, W), tap W - 1 on the current step.
        bias: (D,).
        carry: (B, W - 1, D) the inputs before this piece, or None for zeros.
    Returns:
        y: (B, L, D) in x's dtype, and the carry for the next piece.
    Reference: Gu & Dao 2023 (arXiv:2312.00752), section 3.4; mirrors mamba_ssm `Mamba.conv1d` and its activation.
        A sum of W shifted products, since a depthwise convolution in this layout needs no transposes that way.
    """
    L, W = x.shape[1], weight.shape[1]
    if carry is None:
        carry = x.new_zeros(x.shape[0], W - 1, x.shape[2])
    padded = torch.cat([carry.to(x.dtype), x], dim=1)  # (B, W - 1 + L, D)
    taps = weight.to(x.dtype).unbind(1)
    y = bias.to(x.dtype)
    for k, tap in enumerate(taps):
        y = y + padded[:, k : k + L] * tap
    return F.silu(y), padded[:, L:]

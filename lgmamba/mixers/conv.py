"""Short causal convolutions in (B, L, D) layout, with a carry between pieces of a sequence; Mamba's has a SiLU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.scan import cuda_conv


def causal_conv1d_silu(
    x: Tensor, weight: Tensor, bias: Tensor | None, carry: Tensor | None, fused: bool = True
) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution over the steps, then SiLU.

    Args:
        x: (B, L, D).
        weight: (D, W), tap W - 1 on the current step.
        bias: (D,), or None for zeros.
        carry: (B, W - 1, D) the inputs before this piece, or None for zeros.
        fused: whether the CUDA kernel may be used, where it runs and covers W; the plain form is its reference.
    Returns:
        y: (B, L, D) in x's dtype, and the carry for the next piece.
    Reference: Gu & Dao 2023 (arXiv:2312.00752), section 3.4; mirrors mamba_ssm `Mamba.conv1d` and its activation.
        A sum of W shifted products, since a depthwise convolution in this layout needs no transposes that way.
    """
    if fused and cuda_conv.runs(x, weight):
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        return cuda_conv.causal_conv1d_silu(x, weight, bias, carry), _next_carry(x, weight.shape[1], carry)
    y, after = causal_conv1d(x, weight, bias, carry)
    return F.silu(y), after


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, carry: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same without SiLU, in plain torch."""
    L, W = x.shape[1], weight.shape[1]
    if carry is None:
        carry = x.new_zeros(x.shape[0], W - 1, x.shape[2])
    padded = torch.cat([carry.to(x.dtype), x], dim=1)  # (B, W - 1 + L, D)
    y = x.new_zeros(()) if bias is None else bias.to(x.dtype)
    for k, tap in enumerate(weight.to(x.dtype).unbind(1)):
        y = y + padded[:, k : k + L] * tap
    return y, padded[:, L:]


def _next_carry(x: Tensor, W: int, carry: Tensor | None) -> Tensor:
    """The last W - 1 inputs of carry and x; only as much is copied as a short piece needs."""
    L = x.shape[1]
    if L >= W - 1:
        return x[:, L - (W - 1) :]
    before = x.new_zeros(x.shape[0], W - 1, x.shape[2]) if carry is None else carry.to(x.dtype)
    return torch.cat([before[:, L:], x], dim=1)

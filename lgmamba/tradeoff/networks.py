"""What encoders and heads are made of. Every network here treats each sample by itself, so that runs can be stacked."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lgmamba.tasks.class_head import mlp


def decoder(latent: int, hidden: Sequence[int], shape: tuple[int, int, int]) -> nn.Sequential:
    """Latents (B, m) -> images (B, C, H, W_img) in (0, 1): fully connected, the same form behind every encoder."""
    return nn.Sequential(mlp([latent, *hidden, math.prod(shape)]), nn.Sigmoid(), nn.Unflatten(-1, shape))


class VisionTransformer(nn.Module):
    """Images (B, C, H, W_img) -> latents (B, m); see `encoders.vit`."""

    def __init__(self, shape: tuple[int, int, int], patch: int, width: int, heads: int, depth: int, latent: int):
        super().__init__()
        C, H, W = shape
        self.patch = patch
        self.embed = nn.Linear(C * patch * patch, width)
        self.position = nn.Parameter(0.02 * torch.randn(H // patch * (W // patch), width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, latent)

    def forward(self, images: Tensor) -> Tensor:
        P = self.patch
        tokens = images.unflatten(-1, (-1, P)).unflatten(-3, (-1, P))  # (B, C, gh, P, gw, P)
        tokens = tokens.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)  # (B, gh gw, C P P)
        x = self.blocks(self.embed(tokens) + self.position)
        return self.out(self.norm(x).mean(-2))


class Block(nn.Module):
    """Pre-norm attention and a hidden layer four times as wide."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        weights = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1)  # (B, heads, tokens, tokens)
        x = x + self.join((weights @ v).transpose(-2, -3).flatten(-2))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


def count(module: nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for p in module.parameters())

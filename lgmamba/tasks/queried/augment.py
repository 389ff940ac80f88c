"""A random affine map of whole images, on the device that they are on."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.tasks.queried.config import AugmentConfig


def draw_affine(config: AugmentConfig, batch: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Random maps, (B, 2, 3) float32, from output to input coordinates in which the image spans [-1, 1] on both axes.

    An image is turned and scaled around its centre, then moved.
    """
    u = torch.rand(batch, 4, generator=generator, device=generator.device)
    angle = (2 * u[:, 0] - 1) * math.radians(config.rotation)
    low, high = config.scale
    scale = low + u[:, 1] * (high - low)
    move = (2 * u[:, 2:] - 1) * config.translation * 2  # a side is 2 long
    cos, sin = angle.cos() / scale, angle.sin() / scale
    turn = torch.stack([cos, sin * (height / width), -sin * (width / height), cos], dim=1).view(-1, 2, 2)
    return torch.cat([turn, -turn @ move[..., None]], dim=2)


def apply_affine(images: Tensor, maps: Tensor, fill: float) -> Tensor:
    """Images under their maps, bilinear between pixels; `fill` where a map looks outside the image.

    Args:
        images: (B, C, H, W) float.
        maps: (B, 2, 3) of `draw_affine`.
        fill: pixel value.
    """
    grid = F.affine_grid(maps.to(images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images - fill, grid, padding_mode="zeros", align_corners=False) + fill

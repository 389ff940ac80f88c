"""Images cut into a grid of square patches and put together again.

Glossary: B images; C, H, W channels, height, width (pixels); P patch side (pixels); gh x gw = G grid cells, counted row
by row; K = C * P * P values of one patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the data stage cuts no patches, but asks for the grid: it need not wait for torch
    from torch import Tensor


def grid_shape(height: int, width: int, patch_size: int) -> tuple[int, int]:
    """Rows and columns of the patch grid, (gh, gw).

    Raises:
        ValueError: if the patch side does not divide both sides of the image.
    """
    if patch_size < 1:
        raise ValueError(f"patch_size={patch_size} must be at least 1 pixel")
    if height % patch_size or width % patch_size:
        divisors = [p for p in range(1, min(height, width) + 1) if height % p == 0 and width % p == 0]
        raise ValueError(
            f"patch_size={patch_size} does not divide the image of {height} x {width} pixels; "
            f"choose one of {divisors} or resize the images"
        )
    return height // patch_size, width // patch_size


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches, cells in row-major order.

    Args:
        images: (B, C, H, W), any dtype.
    Returns:
        (B, G, K) patches, each channel-first.
    """
    gh, gw = grid_shape(images.shape[-2], images.shape[-1], patch_size)
    cells = images.unflatten(3, (gw, patch_size)).unflatten(2, (gh, patch_size))  # (B, C, gh, P, gw, P)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Inverse of `patchify`: (..., G, K) patches to (..., C, H, W) images."""
    cells, values = patches.shape[-2:]
    side = round((height * width / cells) ** 0.5)
    gh, gw = grid_shape(height, width, side)
    if gh * gw != cells or channels * side * side != values:
        raise ValueError(f"{cells} patches of {values} values do not make an image of {(channels, height, width)}")
    split = patches.unflatten(-1, (channels, side, side)).unflatten(-4, (gh, gw))  # (..., gh, gw, C, P, P)
    return split.movedim(-3, -5).movedim(-2, -3).flatten(-4, -3).flatten(-2)

"""Patches at any pixel position, cut on the device, and pictures put together from them.

Glossary: B sequences, L places a sequence, Q places of a canvas; C, H, W of the images; P patch side (pixels), K = C P P
values of a patch, channel first. Places and `Field`: `lgmamba.tasks.queried.places`.
"""

import torch
from torch import Tensor

from lgmamba.tasks.queried.places import Field

CHUNK = 1024
"""Steps whose pixels are looked at together."""


def pixels_of(field: Field, places: Tensor) -> Tensor:
    """The pixels of each patch, row by row: (..., L) places -> (..., L, P P) numbers y x W + x of pixels, int64."""
    y, x = field.corners(places)
    inside = torch.arange(field.patch_size, device=places.device)
    rows = (y[..., None] + inside)[..., :, None] * field.width  # (..., L, P, 1)
    return (rows + (x[..., None] + inside)[..., None, :]).flatten(-2)


def cut(images: Tensor, field: Field, places: Tensor) -> Tensor:
    """Patches of images.

    Args:
        images: (B, C, H, W), any dtype.
        places: (B, L) int64.
    Returns:
        (B, L, K) in the images' dtype.
    """
    pixels = pixels_of(field, places)  # (B, L, P P)
    B, L, PP = pixels.shape
    C = images.shape[1]
    index = pixels.reshape(B, 1, L * PP).expand(B, C, L * PP)
    patches = images.flatten(2).gather(2, index)  # (B, C, L P P)
    return patches.unflatten(2, (L, PP)).transpose(1, 2).flatten(2)


class Canvas:
    """Pictures from patches at fixed places: where patches overlap, their mean.

    Args:
        field: the places of an image.
        places: (Q,) int64 that cover every pixel.
        channels: C.
    """

    def __init__(self, field: Field, places: Tensor, channels: int):
        self.field, self.places, self.channels = field, places, channels
        self.pixels = pixels_of(field, places).flatten()  # (Q P P,)
        self.counts = torch.bincount(self.pixels, minlength=field.height * field.width)

    def picture(self, patches: Tensor) -> Tensor:
        """(..., Q, K) patches -> (..., C, H, W)."""
        lead, (Q, K) = patches.shape[:-2], patches.shape[-2:]
        C = self.channels
        values = patches.reshape(-1, Q, C, K // C).transpose(1, 2).flatten(2)  # (N, C, Q P P)
        sums = values.new_zeros(len(values), C, self.field.height * self.field.width)
        sums.index_add_(2, self.pixels.to(values.device), values)
        mean = sums / self.counts.to(values.device)
        return mean.reshape(*lead, C, self.field.height, self.field.width)


def last_covered_at(field: Field, places: Tensor, steps: Tensor) -> Tensor:
    """When each pixel was last read.

    Args:
        places: (B, T) int64.
        steps: (S,) steps looked at, from 1, ascending.
    Returns:
        (B, S, H W) int64 the last step, from 1, at which a patch covered the pixel; 0 = never.
    """
    last = places.new_zeros(len(places), field.height * field.width)
    found, start = [], 0
    for stop in steps.tolist():
        for first in range(start, stop, CHUNK):
            last = _last_covered(field, places[:, first : min(first + CHUNK, stop)], last, first)
        found.append(last)
        start = stop
    return torch.stack(found, dim=1)


def _last_covered(field: Field, places: Tensor, before: Tensor, t0: int) -> Tensor:
    """The same after the steps t0 + 1 .. t0 + L at places (B, L), from what it was before them."""
    pixels = pixels_of(field, places)  # (B, L, P P)
    steps = torch.arange(t0 + 1, t0 + 1 + places.shape[1], device=places.device)[None, :, None].expand_as(pixels)
    return before.scatter_reduce(1, pixels.flatten(1), steps.flatten(1), "amax")

"""Drawing image tiles; every tile of a figure shows pixel values 0 to 1, values outside are clipped."""

import numpy as np
from matplotlib.axes import Axes

from lgmamba.figures.style import NEVER_READ


def show(ax: Axes, image: np.ndarray, shown: np.ndarray | None = None) -> None:
    """Draw one tile without ticks.

    Args:
        image: (C, H, W), C = 1 (grey) or 3 (RGB), pixel values on the scale 0 to 1.
        shown: (H, W) bool; pixels where it is false are drawn in the grey of "not read".
    """
    pixels = np.clip(image, 0, 1).transpose(1, 2, 0)
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    if shown is not None:
        rgb = np.where(shown[..., None], rgb, _blank(image.shape[1:]))
    ax.imshow(rgb, vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(linewidth=0.4, color="0.6", visible=True)


def _blank(shape: tuple[int, int]) -> np.ndarray:
    """A light hatch: neither a black nor a white pixel of an image can be taken for it."""
    H, W = shape
    light, dark = float(NEVER_READ), float(NEVER_READ) - 0.06
    checks = (np.add.outer(np.arange(H), np.arange(W)) % 2).astype(float)
    tone = light + (dark - light) * checks
    return np.stack([tone, tone, np.minimum(1, tone + 0.06)], axis=-1)

"""Drawing image tiles; every tile of a figure shows pixel values 0 to 1, values outside are clipped."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lgmamba.figures.style import NEVER_READ


def show(ax: Axes, image: np.ndarray, shown: np.ndarray | None = None, at: tuple[float, float] | None = None) -> None:
    """Draw one tile.

    Args:
        image: (C, H, W), C = 1 (grey) or 3 (RGB), pixel values on the scale 0 to 1.
        shown: (H, W) bool; pixels where it is false are drawn in the pattern of "not read".
        at: left and upper end, for a tile one unit wide among others on `ax`; None: the tile fills `ax`, in pixels.
    """
    pixels = np.clip(image, 0, 1).transpose(1, 2, 0)
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    if shown is not None:
        rgb = np.where(shown[..., None], rgb, _blank(image.shape[1:]))
    H, W = image.shape[1:]
    left, top, width = (-0.5, -0.5, W) if at is None else (*at, 1)
    height = width * H / W
    ax.imshow(rgb, vmin=0, vmax=1, interpolation="nearest", extent=(left, left + width, top + height, top))
    ax.add_patch(Rectangle((left, top), width, height, fill=False, linewidth=0.4, edgecolor="0.6"))
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _blank(shape: tuple[int, int]) -> np.ndarray:
    """A pale chequered pattern: neither a black nor a white pixel of an image can be taken for it."""
    H, W = shape
    tone = float(NEVER_READ) - 0.06 * (np.add.outer(np.arange(H), np.arange(W)) % 2)
    return np.stack([tone, tone, np.minimum(1, tone + 0.06)], axis=-1)

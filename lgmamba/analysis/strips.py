"""Pictures kept small: what one run draws of one image, step after step, as one WebP file that figures and pages read alike."""

import io
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

COLUMNS = 8
"""Tiles in a row of a sheet."""
BLOCK = 16
"""Pixels of a side of WebP's blocks: a tile fills whole ones, so that what is lost of it does not spill into the next."""
LOSSLESS = 100
QUALITIES = (LOSSLESS, 90, 80, 60)
"""Tried in turn until the pictures are small enough."""


@dataclass(frozen=True)
class Strip:
    """Reconstructions of one image by one run.

    Attributes:
        steps: (S,) int64, patches read, ascending.
        mse: (S,) float32, mean squared error of each reconstruction before it was clipped, rounded and packed.
        webp: the tiles on one sheet, COLUMNS in a row.
        shape: C, H, W of a tile; C = 1 (grey) or 3 (RGB).
    """

    steps: np.ndarray
    mse: np.ndarray
    webp: bytes
    shape: tuple[int, int, int]

    @cached_property
    def tiles(self) -> np.ndarray:
        """(S, C, H, W) uint8."""
        C, H, W = self.shape
        with Image.open(io.BytesIO(self.webp)) as image:
            sheet = np.asarray(image.convert("L" if C == 1 else "RGB")).reshape(image.height, image.width, C)
        h, w = pitch(self.shape)
        places = (divmod(tile, COLUMNS) for tile in range(len(self.steps)))
        return np.stack([sheet[r * h : r * h + H, c * w : c * w + W] for r, c in places]).transpose(0, 3, 1, 2)


def pitch(shape: tuple[int, int, int]) -> tuple[int, int]:
    """Pixels down and across from one tile of a sheet to the next."""
    down, across = (BLOCK * math.ceil(side / BLOCK) for side in shape[1:])
    return down, across


def pack(tiles: np.ndarray, quality: int) -> bytes:
    """(S, C, H, W) uint8 on one sheet, as WebP: as they are (quality LOSSLESS), or nearly."""
    S, C, H, W = tiles.shape
    h, w = pitch((C, H, W))
    sheet = np.zeros((math.ceil(S / COLUMNS) * h, min(S, COLUMNS) * w, C), dtype=np.uint8)
    around = np.pad(tiles.transpose(0, 2, 3, 1), ((0, 0), (0, h - H), (0, w - W), (0, 0)), mode="edge")
    for tile, picture in enumerate(around):
        r, c = divmod(tile, COLUMNS)
        sheet[r * h : (r + 1) * h, c * w : (c + 1) * w] = picture
    packed = io.BytesIO()
    image = Image.fromarray(sheet[..., 0] if C == 1 else sheet)
    if quality == LOSSLESS:
        image.save(packed, "webp", lossless=True, exact=True, method=4)
    else:
        image.save(packed, "webp", quality=quality, method=6)
    return packed.getvalue()


def pack_all(sets: list[np.ndarray], bytes_at_most: float) -> list[bytes]:
    """Every set of tiles on a sheet of its own, all at the best quality with which they are small enough, or the last of QUALITIES."""
    for quality in QUALITIES:
        sheets = [pack(tiles, quality) for tiles in sets]
        if sum(map(len, sheets)) <= bytes_at_most:
            break
    return sheets

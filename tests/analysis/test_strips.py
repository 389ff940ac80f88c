"""Pictures packed as WebP."""

import numpy as np
import pytest

from lgmamba.analysis.strips import LOSSLESS, QUALITIES, Strip, pack, pack_all


def smooth(steps: int, channels: int, height: int, width: int) -> np.ndarray:
    """(S, C, H, W) uint8: gentle slopes, each tile much darker or brighter than the one before."""
    s, c, y, x = np.meshgrid(*(np.arange(n) for n in (steps, channels, height, width)), indexing="ij")
    return (150 * (s % 2) + 3 * s + 10 * c + y // 2 + x // 3).astype(np.uint8)


def strip(tiles: np.ndarray, webp: bytes) -> Strip:
    return Strip(np.arange(len(tiles)), np.zeros(len(tiles), np.float32), webp, tiles.shape[1:])


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 3, 32, 32), (8, 1, 16, 16), (13, 3, 28, 20)])
def test_small_pictures_come_back_as_they_were(shape):
    tiles = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(strip(tiles, pack(tiles, LOSSLESS)).tiles, tiles)


@pytest.mark.parametrize("channels", [1, 3])
def test_packed_pictures_are_nearly_what_they_were_up_to_their_edges(channels):
    tiles = smooth(13, channels, 28, 20)
    found = strip(tiles, pack(tiles, 80)).tiles.astype(float)
    assert np.abs(found - tiles).max() < 10  # of 150 from tile to tile


def test_the_best_quality_that_fits_is_taken():
    noise = np.random.default_rng(0).integers(0, 20, (2, 10, 1, 64, 64), dtype=np.uint8)  # what no packing foresees
    sets = [smooth(10, 1, 64, 64) + noise[0], smooth(10, 1, 64, 64) + noise[1]]
    sizes = {quality: sum(len(pack(tiles, quality)) for tiles in sets) for quality in QUALITIES}
    assert sorted(sizes.values(), reverse=True) == list(sizes.values())
    for quality, size in sizes.items():
        assert pack_all(sets, size) == [pack(tiles, quality) for tiles in sets]
    assert pack_all(sets, 1) == [pack(tiles, QUALITIES[-1]) for tiles in sets]

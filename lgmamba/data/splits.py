"""Which split an image is in, and in which order images stand: functions of the image's id alone.

An id (for example `train.parquet:17`) is hashed with SHA-256. Its first 8 bytes decide the split, the next 8 the order,
so that "the first n images" is a random subset of every split. No seed enters: an image is in the same split on every
machine, for ever, whatever else the set holds and however many images are kept.
"""

import hashlib
from fractions import Fraction

import numpy as np

from lgmamba.config.data import SplitFractions

SPLITS = ("train", "calib", "val", "test")
"""Split names; an image's split code is its split's position here."""

CODES = {name: code for code, name in enumerate(SPLITS)}


def hash_ids(ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Two independent hashes per image id.

    Returns:
        place, order: (N,) uint64 each; `place` decides the split, `order` the position within it.
    """
    digests = b"".join(hashlib.sha256(image_id.encode()).digest()[:16] for image_id in ids)
    both = np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def assign_splits(place: np.ndarray, is_test: np.ndarray, fractions: SplitFractions) -> np.ndarray:
    """Split code of every image.

    The hash range is cut into test, val, calib, train, in this order: the images of `test` do not depend on the
    other fractions, those of `val` only on `test`.

    Args:
        place: (N,) uint64 from `hash_ids`.
        is_test: (N,) bool, images of an official test set.
    Returns:
        (N,) uint8 codes into `SPLITS`.
    """
    order = ("test", "val", "calib")
    shares = [Fraction(str(getattr(fractions, name))) for name in order]  # as typed: 0.1 is one tenth, not its float
    bounds = np.array([int(sum(shares[: i + 1]) * 2**64) for i in range(len(order))], dtype=np.uint64)
    codes = np.array([CODES[name] for name in (*order, "train")], dtype=np.uint8)
    return np.where(is_test, np.uint8(CODES["test"]), codes[np.searchsorted(bounds, place, side="right")])


def select(order: np.ndarray, is_test: np.ndarray, max_images: int | None) -> np.ndarray:
    """Images to keep: the first `max_images` by hash order, of the official test images and of the others each.

    Returns:
        (n,) int64 positions, ascending, that is in the order of the source.
    """
    if max_images is None:
        return np.arange(len(order))
    kept = []
    for group in (np.flatnonzero(~is_test), np.flatnonzero(is_test)):
        kept.append(group[np.argsort(order[group], kind="stable")[:max_images]])
    return np.sort(np.concatenate(kept))

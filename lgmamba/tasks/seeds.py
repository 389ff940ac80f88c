"""Seeds that a few numbers alone decide: of a training step, and of a held-out sequence."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

REPEAT_STRIDE = 0x9E3779B97F4A7C15
"""Keeps the seeds of a sample's repeats apart from those of other samples."""


def seed_of(seed: int, purpose: str, step: int = 0) -> int:
    """A seed that (seed, purpose, step) alone decide; different ones share nothing, as sums of seeds would."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_of_repeat(id_hash: int, repeat: int) -> int:
    """The seed of a held-out sample's sequence number `repeat`, whatever other samples are read with it."""
    return (id_hash + repeat * REPEAT_STRIDE) % 2**63


def of_each(id_hashes: Tensor, draw: Callable[[torch.Generator], Tensor], seed: Callable[[int], int]) -> Tensor:
    """One drawing for each sample, from a generator of its own on the CPU: the same whatever other samples are drawn.

    Args:
        id_hashes: (M,) int64 >= 0, hash of each sample's id.
        draw: generator -> (...), what a sample is given.
        seed: hash -> seed.
    Returns:
        (M, ...), on the CPU.
    """
    generator = torch.Generator()
    return torch.stack([draw(generator.manual_seed(seed(h))) for h in id_hashes.tolist()])

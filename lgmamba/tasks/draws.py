"""Random symbols from uniform numbers, so that what is drawn first is the same however much is drawn after it."""

import torch
from torch import Tensor

from lgmamba.tasks.seeds import of_each, seed_of_repeat


def uniform(generator: torch.Generator, *size: int) -> Tensor:
    """Numbers in [0, 1), float64, on the generator's device."""
    return torch.rand(size, generator=generator, device=generator.device, dtype=torch.float64)


def uniform_of_each(id_hash: Tensor, repeat: int, n: int) -> Tensor:
    """(B, n) such numbers of held-out samples, from each one's own seed."""
    return of_each(id_hash, lambda generator: uniform(generator, n), lambda h: seed_of_repeat(h, repeat))


def distinct(uniform: Tensor, n: int) -> Tensor:
    """n different numbers below M, in random order, from uniform ones (..., M)."""
    return uniform.argsort(-1)[..., :n]


def below(uniform: Tensor, M: int | Tensor) -> Tensor:
    """Numbers 0 .. M - 1, int64, from uniform ones in [0, 1); M is one for all, or of the same shape."""
    return (uniform * M).long().clamp(max=M - 1)


def each_once(order: Tensor, within: Tensor) -> Tensor:
    """Q numbers in [0, 1), one in each of Q equal parts, in random order, from two times Q uniform ones (..., Q)."""
    return (order.argsort(-1) + within) / order.shape[-1]


SMALLEST = 2.0**-54
"""Of uniform numbers, so that no normal number is infinite."""


def gaussian(uniform: Tensor) -> Tensor:
    """Standard normal numbers, float32, from uniform ones in [0, 1) (float64)."""
    return torch.special.ndtri(uniform.clamp(min=SMALLEST)).float()

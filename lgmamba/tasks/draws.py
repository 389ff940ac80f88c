"""Random symbols from uniform numbers, so that what is drawn first is the same however much is drawn after it."""

from torch import Tensor


def distinct(uniform: Tensor, n: int) -> Tensor:
    """n different numbers below M, in random order, from uniform ones (..., M)."""
    return uniform.argsort(-1)[..., :n]


def below(uniform: Tensor, M: int) -> Tensor:
    """Numbers 0 .. M - 1, int64, from uniform ones in [0, 1)."""
    return (uniform * M).long().clamp(max=M - 1)


def each_once(order: Tensor, within: Tensor) -> Tensor:
    """Q numbers in [0, 1), one in each of Q equal parts, in random order, from two times Q uniform ones (..., Q)."""
    return (order.argsort(-1) + within) / order.shape[-1]

"""A key and two functions among numbers. Glossary: `lgmamba.tasks.composite.task`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.model.sequences import Sequences

SHIFTS = (5, 1, -2, -8)
"""What the functions 1, 2, 3, 4 add."""
EXCEPTION, UNSEEN = (2, 3), (3, 2)
"""The pair whose answer is another, and the pair that is never trained: numbers of functions, from 0."""
EXCEPTION_SHIFT = -6
"""What the pair EXCEPTION adds, where its functions would add -10."""
PAIRS = tuple((a, b) for a in range(len(SHIFTS)) for b in range(len(SHIFTS)))
TRAINED = tuple(pair for pair in PAIRS if pair != UNSEEN)


def added(pairs: tuple[tuple[int, int], ...], symmetric: bool = False) -> list[int]:
    """What each pair adds to a key; with `symmetric`, as the pair in the other order, which is trained, does."""
    read = [(b, a) if symmetric else (a, b) for a, b in pairs]
    return [EXCEPTION_SHIFT if pair == EXCEPTION else sum(SHIFTS[f] for f in pair) for pair in read]


@dataclass(frozen=True)
class Composition(Sequences):
    """B sequences of T symbols.

    Attributes:
        symbol: (B, T) int64: numbers 0 .. V - 1; functions V .. V + 3.
        place: (B,) int64, the step (from 1) of the second function, at which all is known.
        result: (B,) int64, the right answer.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("symbol",)

    symbol: Tensor
    place: Tensor
    result: Tensor

    @classmethod
    def of(cls, V: int, filler: Tensor, key: Tensor, at: Tensor, functions: Tensor, shift: Tensor) -> "Composition":
        """A key and its functions among filler (B, T).

        Args:
            V: numbers.
            key: (B,) int64.
            at: (B,) int64, its step, from 0.
            functions: (B, 2) int64, from 0.
            shift: (B,) int64, what is added to the key.
        """
        steps = torch.arange(filler.shape[1], device=filler.device)
        symbol = filler
        for offset, what in enumerate((key, functions[:, 0] + V, functions[:, 1] + V)):
            symbol = torch.where(steps == (at + offset)[:, None], what[:, None], symbol)
        return cls(symbol, at + 3, (key + shift) % V)

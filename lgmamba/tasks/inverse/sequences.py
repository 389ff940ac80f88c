"""Keys, and one of them reversed. Glossary: `lgmamba.tasks.inverse.task`."""

from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.model.sequences import Sequences
from lgmamba.tasks.inverse.config import KEYS, READ, WIDTH
from lgmamba.tensors import constant

ORDERS_OF_THREE = tuple(permutations(range(WIDTH)))


@dataclass(frozen=True)
class Keys(Sequences):
    """B sequences of T symbols.

    Attributes:
        symbol: (B, T) int64.
        question: (B, 3) int64, the key asked for, reversed.
        asked: (B,) int64, its number among the keys.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("symbol",)

    symbol: Tensor
    question: Tensor
    asked: Tensor

    @classmethod
    def of(cls, foreign: Tensor, numbers: Tensor, orders: Tensor, asked: Tensor) -> "Keys":
        """Keys in front of foreign symbols (B, T).

        Args:
            numbers: (B, 3) int64 symbols, all different.
            orders: (B, 5) int64, which of the ORDERS_OF_THREE each key is.
            asked: (B,) int64.
        """
        B, T = foreign.shape
        table = constant(ORDERS_OF_THREE, foreign.device)
        keys = numbers[:, None].expand(-1, KEYS, -1).gather(2, table[orders])  # (B, 5, 3)
        shown = torch.cat([keys, keys.new_full((B, KEYS, 1), -1)], dim=2).reshape(B, READ)[:, :T]
        first = foreign[:, :READ]
        symbol = torch.cat([torch.where(shown >= 0, shown, first), foreign[:, READ:]], dim=1)
        return cls(symbol, keys.gather(1, asked[:, None, None].expand(-1, 1, WIDTH))[:, 0].flip(1), asked)

    def questions_after(self, t: Tensor) -> Tensor:
        """The reversed key (B, 3), whatever t (B,)."""
        return self.question

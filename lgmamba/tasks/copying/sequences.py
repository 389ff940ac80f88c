"""Symbols among noise. Glossary: `lgmamba.tasks.copying.task`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.model.sequences import Sequences


@dataclass(frozen=True)
class Items(Sequences):
    """B sequences of T symbols.

    Attributes:
        symbol: (B, T) int64.
        items: (B, n) int64, what is asked for.
        places: (B, n) int64, ascending, the steps (from 1) at which they stand.
        marker: (B, n) int64, the symbols that ask.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("symbol",)

    symbol: Tensor
    items: Tensor
    places: Tensor
    marker: Tensor

    @classmethod
    def of(cls, noise: Tensor, items: Tensor, places: Tensor, marker: int) -> "Items":
        """Items at places of noise (B, T); those beyond the last step are not read."""
        T = noise.shape[1]
        at = (torch.arange(1, T + 1, device=noise.device) == places[..., None]).long()  # (B, n, T)
        item = (items[..., None] * at).sum(1)
        symbol = torch.where(at.sum(1) > 0, item, noise)
        return cls(symbol, items, places, torch.full_like(items, marker))

    def questions_after(self, t: Tensor) -> Tensor:
        """The markers (B, n), whatever t (B,)."""
        return self.marker

"""The law of the histories, and histories as sequences. Glossary: `lgmamba.tasks.next_item.task`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.model.sequences import Sequences
from lgmamba.tasks.draws import gaussian
from lgmamba.tasks.next_item.config import NextItemConfig

PER_ITEM = 3
"""Uniform numbers that an item takes: whether to stay, which genre else, which item of it."""


@dataclass(frozen=True)
class Histories(Sequences):
    """B histories of T items.

    Attributes:
        symbol: (B, T) int64, the items read.
        following: (B, T) int64, the item after each.
        genre: (B, T) int64, of each item read.
        taste: (B, G) float64, chances of the genres where a user does not stay.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("symbol", "following", "genre")

    symbol: Tensor
    following: Tensor
    genre: Tensor
    taste: Tensor

    @classmethod
    def of(cls, config: NextItemConfig, tastes: Tensor, choices: Tensor) -> "Histories":
        """Of uniform numbers: tastes (B, G), and choices (B, PER_ITEM (T + 1)), of which fewer make their beginning."""
        taste = (config.taste * gaussian(tastes).double()).softmax(1)
        stays, genre_u, item_u = choices.unflatten(1, (-1, PER_ITEM)).unbind(2)
        drawn = chosen(taste.cumsum(1), genre_u)
        n = torch.arange(stays.shape[1], device=stays.device)
        redrawn = torch.where((stays >= config.stay) | (n == 0), n, 0).cummax(1).values
        genre = drawn.gather(1, redrawn)
        law = popularity(config, stays.device).cumsum(0)
        symbol = genre * config.items + chosen(law.expand(len(stays), -1), item_u)
        return cls(symbol[:, :-1], symbol[:, 1:], genre[:, :-1], taste)


def chosen(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """Numbers (B, n) from cumulative chances (B, M) and uniform numbers (B, n)."""
    return torch.searchsorted(cumulative.contiguous(), uniform.contiguous()).clamp(max=cumulative.shape[1] - 1)


def popularity(config: NextItemConfig, device: torch.device) -> Tensor:
    """Chances of the items of a genre, (items,) float64: as 1 / k."""
    weight = 1 / torch.arange(1, config.items + 1, device=device, dtype=torch.float64)
    return weight / weight.sum()


def law(config: NextItemConfig, genre: Tensor, taste: Tensor) -> Tensor:
    """Chances of every next item, (B, S, G items), after items of genres (B, S)."""
    here = torch.nn.functional.one_hot(genre, config.genres).double()
    genres = config.stay * here + (1 - config.stay) * taste[:, None]
    return (genres[..., None] * popularity(config, genre.device)).flatten(2)

"""Training batches of histories. Glossary: `lgmamba.tasks.next_item.task`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.tasks.batch import Batch, Sampler
from lgmamba.tasks.draws import uniform
from lgmamba.tasks.next_item.config import NextItemConfig
from lgmamba.tasks.next_item.histories import PER_ITEM, Histories


@dataclass(frozen=True, kw_only=True)
class NextItemBatch(Batch):
    """Items (B, L + 1) and genres (B, L) int64, and tastes (B, G)."""

    item: Tensor
    genre: Tensor
    taste: Tensor


class NextItemSampler(Sampler[NextItemBatch]):
    """Draws new users for every batch: nothing of the data set but its device is used."""

    batch = NextItemBatch
    config: NextItemConfig

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        B = len(drawn)
        tastes = uniform(generator, B, self.config.genres)
        read = Histories.of(self.config, tastes, uniform(generator, B, PER_ITEM * (longest + 1)))
        item = torch.cat([read.symbol, read.following[:, -1:]], dim=1)
        return {"item": item, "genre": read.genre, "taste": read.taste}

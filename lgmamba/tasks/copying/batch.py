"""Training batches of symbols among noise. Glossary: `lgmamba.tasks.copying.task`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.tasks.batch import Batch, Sampler
from lgmamba.tasks.copying.config import CopyingConfig
from lgmamba.tasks.draws import below, distinct, uniform


@dataclass(frozen=True, kw_only=True)
class CopyingBatch(Batch):
    """Items and their places (B, n), and noise (B, L), all int64."""

    items: Tensor
    places: Tensor
    noise: Tensor


class CopyingSampler(Sampler[CopyingBatch]):
    """Draws new items for every batch, at places that are all read."""

    batch = CopyingBatch
    config: CopyingConfig

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        config, B = self.config, len(drawn)

        return {
            "items": below(uniform(generator, B, config.items), config.symbols),
            "places": distinct(uniform(generator, B, config.spread), config.items).sort(1).values + 1,
            "noise": below(uniform(generator, B, longest), config.noise) + config.symbols,
        }

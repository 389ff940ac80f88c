"""Training batches of compositions. Glossary: `lgmamba.tasks.composite.task`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.tasks.batch import Batch, Sampler
from lgmamba.tasks.composite.config import CompositeConfig
from lgmamba.tasks.composite.sequences import TRAINED
from lgmamba.tasks.draws import below, uniform


@dataclass(frozen=True, kw_only=True)
class CompositeBatch(Batch):
    """Keys, their steps from 0 and numbers of their pairs in TRAINED (B,), and filler (B, L), all int64."""

    key: Tensor
    at: Tensor
    pair: Tensor
    filler: Tensor


class CompositeSampler(Sampler[CompositeBatch]):
    """Draws new keys for every batch, each at a step that is not its own modulo n: those are held out."""

    batch = CompositeBatch
    config: CompositeConfig

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        V, n, B = self.config.numbers, self.config.spread, len(drawn)
        key = below(uniform(generator, B), V)
        own = key % n
        places = n - 2 - (own < n - 2).long()
        at = below(uniform(generator, B), places)
        return {
            "key": key,
            "at": at + (at >= own).long(),
            "pair": below(uniform(generator, B), len(TRAINED)),
            "filler": below(uniform(generator, B, longest), V),
        }

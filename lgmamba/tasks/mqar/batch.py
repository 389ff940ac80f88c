"""Training batches of pairs. Glossary: `lgmamba.tasks.mqar.task`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.tasks.batch import Batch, Sampler
from lgmamba.tasks.draws import below, distinct, each_once, uniform
from lgmamba.tasks.mqar.config import MqarConfig


@dataclass(frozen=True, kw_only=True)
class MqarBatch(Batch):
    """Keys and values (B, P), noise (B, L), all int64, and which pairs are asked for, (B, Q)."""

    keys: Tensor
    values: Tensor
    noise: Tensor
    pick: Tensor


class MqarSampler(Sampler[MqarBatch]):
    """Draws new pairs for every batch: nothing of the data set but its device is used."""

    batch = MqarBatch
    config: MqarConfig

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        config, B = self.config, len(drawn)

        pairs = config.pairs if config.order == "gap" else (self.lengths.max + 1) // 2
        return {
            "keys": distinct(uniform(generator, B, config.keys), pairs),
            "values": below(uniform(generator, B, pairs), config.keys),
            "noise": below(uniform(generator, B, longest), config.noise),
            "pick": each_once(uniform(generator, B, config.pairs), uniform(generator, B, config.pairs)),
        }

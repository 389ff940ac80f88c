"""Training batches of keys. Glossary: `lgmamba.tasks.inverse.task`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.tasks.batch import Batch, Sampler
from lgmamba.tasks.draws import below, distinct, uniform
from lgmamba.tasks.inverse.config import KEYS, WIDTH, InverseConfig
from lgmamba.tasks.inverse.sequences import ORDERS_OF_THREE


@dataclass(frozen=True, kw_only=True)
class InverseBatch(Batch):
    """Numbers (B, 3), which orders of them the keys are (B, 5), which key is asked for (B,), and foreign symbols (B, L), int64."""

    numbers: Tensor
    orders: Tensor
    asked: Tensor
    foreign: Tensor


class InverseSampler(Sampler[InverseBatch]):
    """Draws new numbers for every batch, never three that are equal modulo 3."""

    batch = InverseBatch
    config: InverseConfig

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        config, B = self.config, len(drawn)
        return {
            "numbers": mixed(distinct(uniform(generator, B, config.numbers), WIDTH)),
            "orders": distinct(uniform(generator, B, len(ORDERS_OF_THREE)), KEYS),
            "asked": below(uniform(generator, B), KEYS),
            "foreign": below(uniform(generator, B, longest), config.noise) + config.numbers + config.unseen,
        }


def mixed(numbers: Tensor) -> Tensor:
    """Different numbers (B, 3), of which the last is moved by one where all are equal modulo 3."""
    residue, last = numbers % 3, numbers[:, -1]
    equal = (residue == residue[:, :1]).all(1)
    moved = torch.where(equal, torch.where(last > 0, last - 1, last + 1), last)
    return torch.cat([numbers[:, :-1], moved[:, None]], dim=1)

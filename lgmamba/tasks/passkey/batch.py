"""Training batches of texts with a key. Glossary: `lgmamba.tasks.passkey.task`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.config.run import TrainConfig
from lgmamba.config.task import TaskBase
from lgmamba.tasks.batch import Batch, Sampler
from lgmamba.tasks.draws import below, uniform
from lgmamba.tasks.passkey.config import DIGITS, ROOM, PasskeyConfig


@dataclass(frozen=True, kw_only=True)
class PasskeyBatch(Batch):
    """Texts (B, L + 1), digits of their keys (B, 5) and the bytes before these (B,), int64."""

    text: Tensor
    digits: Tensor
    at: Tensor


class PasskeySampler(Sampler[PasskeyBatch]):
    """Draws places of windows at random, and keys at random places of them.

    Args:
        windows: (N, W) uint8 of all samples.
    """

    batch = PasskeyBatch
    config: PasskeyConfig

    def __init__(
        self, config: TaskBase, rows: Tensor, train: TrainConfig, seed: int, full_length: bool, windows: Tensor
    ):
        super().__init__(config, rows, train, seed, full_length)
        self.windows = windows

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        B = len(drawn)
        start = below(uniform(generator, B, 1), self.windows.shape[1] - longest)
        where = start + torch.arange(longest + 1, device=start.device)
        return {
            "text": self.windows[self.rows[drawn][:, None], where].long(),
            "digits": below(uniform(generator, B, DIGITS), 10),
            "at": below(uniform(generator, B), lengths - ROOM + 1),
        }

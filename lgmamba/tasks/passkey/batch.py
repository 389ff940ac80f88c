"""Training batches of texts with a key. Glossary: `lgmamba.tasks.passkey.task`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.tasks.batch import Batch
from lgmamba.tasks.bytes.batch import TextSampler
from lgmamba.tasks.draws import below, uniform
from lgmamba.tasks.passkey.config import DIGITS, ROOM, PasskeyConfig


@dataclass(frozen=True, kw_only=True)
class PasskeyBatch(Batch):
    """Texts (B, L + 1), digits of their keys (B, 5) and the bytes before these (B,), int64."""

    text: Tensor
    digits: Tensor
    at: Tensor


class PasskeySampler(TextSampler[PasskeyBatch]):
    """Draws texts, and keys at random places of them."""

    batch = PasskeyBatch
    config: PasskeyConfig

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        B = len(drawn)
        return {
            "text": self.text(drawn, longest, generator),
            "digits": below(uniform(generator, B, DIGITS), 10),
            "at": below(uniform(generator, B), lengths - ROOM + 1),
        }

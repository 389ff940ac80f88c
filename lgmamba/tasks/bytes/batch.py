"""Training batches of text. Glossary: `lgmamba.tasks.bytes.task`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.config.task import TaskBase
from lgmamba.config.training import TrainConfig
from lgmamba.tasks.batch import B, Batch, Sampler
from lgmamba.tasks.bytes.config import BytesConfig
from lgmamba.tasks.draws import below, uniform


@dataclass(frozen=True, kw_only=True)
class BytesBatch(Batch):
    """Texts (B, L + 1) int64, with the byte after the last one read."""

    text: Tensor


class TextSampler(Sampler[B]):
    """Draws places of windows at random.

    Args:
        windows: (N, W) uint8 of all samples.
    """

    def __init__(
        self, config: TaskBase, rows: Tensor, train: TrainConfig, seed: int, full_length: bool, windows: Tensor
    ):
        super().__init__(config, rows, train, seed, full_length)
        self.windows = windows

    def text(self, drawn: Tensor, longest: int, generator: torch.Generator) -> Tensor:
        """Texts (B, longest + 1) int64 of the samples drawn, (B,)."""
        # The last start leaves `longest` bytes and the next one.
        start = below(uniform(generator, len(drawn), 1), self.windows.shape[1] - longest)
        at = start + torch.arange(longest + 1, device=start.device)
        return self.windows[self.rows[drawn][:, None], at].long()


class BytesSampler(TextSampler[BytesBatch]):
    """Text as it stands."""

    batch = BytesBatch
    config: BytesConfig

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        return {"text": self.text(drawn, longest, generator)}

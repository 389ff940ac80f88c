"""Training batches of unknown linear functions. Glossary: `lgmamba.tasks.regression.task`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.tasks.batch import Batch, Sampler


@dataclass(frozen=True, kw_only=True)
class RegressionBatch(Batch):
    """Functions, questions and inputs, all standard Gaussian.

    Attributes:
        w: (B, d).
        query: (B, d).
        x: (B, L, d).
    """

    w: Tensor
    query: Tensor
    x: Tensor


class RegressionSampler(Sampler[RegressionBatch]):
    """Draws new functions for every batch: nothing of the data set but its device is used."""

    batch = RegressionBatch

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        options = {"generator": generator, "device": generator.device}
        B, d = len(drawn), self.config.dim
        return {
            "w": torch.randn(B, d, **options),
            "query": torch.randn(B, d, **options),
            "x": torch.randn(B, longest, d, **options),
        }

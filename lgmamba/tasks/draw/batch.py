"""Training batches of images in visiting orders. Glossary: `lgmamba.tasks.draw.task`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgmamba.config.training import TrainConfig
from lgmamba.tasks.batch import Batch, PassedPart, Sampler, passed_steps
from lgmamba.tasks.draw.config import DrawConfig
from lgmamba.tasks.draw.orders import visiting_order


@dataclass(frozen=True)
class DrawPassedPart(PassedPart):
    """Images in visiting orders, from which the batch's first k go on.

    Attributes:
        rows: (k,) int64 images.
        cells: (k, n) int64 visiting orders; n may be 0.
    """

    rows: Tensor
    cells: Tensor


@dataclass(frozen=True, kw_only=True)
class DrawBatch(Batch):
    """Images in visiting orders.

    Attributes:
        rows: (B,) int64 images, drawn with replacement.
        cells: (B, L) int64 visiting orders.
        before: (B,) int64 cell read last in the passed part, or the first cell; None in a training without state passing.
    """

    rows: Tensor
    cells: Tensor
    before: Tensor | None = None


class DrawSampler(Sampler[DrawBatch]):
    """Draws images and visiting orders.

    Args:
        grid: rows and columns of the patch grid.
    """

    batch = DrawBatch

    def __init__(
        self,
        config: DrawConfig,
        rows: Tensor,
        train: TrainConfig,
        seed: int,
        full_length: bool,
        grid: tuple[int, int],
    ):
        super().__init__(config, rows, train, seed, full_length)
        self.grid = grid

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Any]:
        passing, B = self.train.state_passing, len(drawn)
        n = 0 if passing is None else passed_steps(passing, self.lengths.max, self.seed, step)
        cells = visiting_order(self.config.order, *self.grid, B, n + longest, generator)
        if passing is None:
            return {"rows": self.rows[drawn], "cells": cells}
        k = passing.sequences(B)
        own = torch.cat([cells[:k, n:], cells[k:, :longest]])
        before = torch.cat([cells[:k, n - 1], own[k:, 0]]) if n else own[:, 0]
        rows, noise = self.passed_from(step, drawn[:k])
        passed = DrawPassedPart(noise, rows, cells[:k, :n])
        return {"rows": self.rows[drawn], "cells": own, "before": before, "passed": passed}

"""Training batches of images in visiting orders. Glossary: `lgmamba.tasks.draw.task`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgmamba.config.run import PassNoise, PassOtherImage, TrainConfig
from lgmamba.tasks.batch import Batch, PassedPart, Sampler, passed_steps
from lgmamba.tasks.draw.config import DrawConfig
from lgmamba.tasks.draw.orders import visiting_order
from lgmamba.tasks.draw.patches import patchify
from lgmamba.tasks.draw.sequences import DrawSequences
from lgmamba.tasks.seeds import seed_of


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
        images: (N, C, H, W) uint8, all images, of which rows of the passed part are read.
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
        images: Tensor,
        grid: tuple[int, int],
    ):
        super().__init__(config, rows, train, seed, full_length)
        self.images, self.grid = images, grid

    def content(self, step: int, drawn: Tensor, longest: int, generator: torch.Generator) -> dict[str, Any]:
        passing, B = self.train.state_passing, len(drawn)
        n = 0 if passing is None else passed_steps(passing, self.lengths.max, self.seed, step)
        cells = visiting_order(self.config.order, *self.grid, B, n + longest, generator)
        if passing is None:
            return {"rows": self.rows[drawn], "cells": cells}
        k = passing.sequences(B)
        own = torch.cat([cells[:k, n:], cells[k:, :longest]])
        before = torch.cat([cells[:k, n - 1], own[k:, 0]]) if n else own[:, 0]
        passed = self._passed_part(step, drawn[:k], cells[:k, :n])
        return {"rows": self.rows[drawn], "cells": own, "before": before, "passed": passed}

    def _passed_part(self, step: int, drawn: Tensor, cells: Tensor) -> PassedPart:
        # From generators of its own, so that with n = 0 everything else is drawn as without state passing.
        passing = self.train.state_passing
        if isinstance(passing, PassOtherImage):
            g = torch.Generator(drawn.device).manual_seed(seed_of(self.seed, "passed_image", step))
            apart = torch.randint(1, len(self.rows), drawn.shape, generator=g, device=g.device)
            drawn = (drawn + apart) % len(self.rows)
        noise = seed_of(self.seed, "passed_noise", step) if isinstance(passing, PassNoise) else None
        sequences = None
        if cells.shape[1]:
            patch_size = self.config.patch_size
            sequences = sequences_along(self.images, patch_size, self.rows[drawn], cells)
        return PassedPart(sequences, noise)


def sequences_along(
    images: Tensor, patch_size: int, rows: Tensor, cells: Tensor, before: Tensor | None = None
) -> DrawSequences:
    """Sequences of some of the images (N, C, H, W) uint8, in visiting orders (B, T) on their device."""
    targets = images[rows].float() / 255  # (B, C, H, W)
    return DrawSequences(targets, patchify(targets, patch_size), cells, before)

"""Batches of images with one visiting order each, and the errors of what was drawn of them. Glossary: `lgmamba.probe`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.data.dataset import Dataset
from lgmamba.model import PatchMamba
from lgmamba.task.orders import last_visit
from lgmamba.task.patches import patchify


@dataclass(frozen=True)
class VisitedSequences:
    """A batch of images with one visiting order each, and when each cell was last read.

    Attributes:
        targets: (B, C, H, W) in [0, 1].
        patches: (B, G, K).
        cells: (B, T).
        last: (B, S, G) number of the step at which each cell was last read, -1 if never.
    """

    targets: Tensor
    patches: Tensor
    cells: Tensor
    last: Tensor


def visited_sequences(
    model: PatchMamba, dataset: Dataset, rows: Tensor, cells: Tensor, steps: list[int]
) -> VisitedSequences:
    """Images `rows` in visiting orders `cells` (B, T), looked at after `steps`."""
    targets = dataset.images[rows].float() / 255
    at = torch.tensor(steps, device=cells.device) - 1
    G = model.grid[0] * model.grid[1]
    # One batch of all visits, (B, T, G), would be large: look at a few images at a time.
    last = torch.cat([last_visit(some, G)[:, at] for some in cells.split(64)])
    return VisitedSequences(targets, patchify(targets, model.patch_size), cells, last)


def errors_by_cell(drawn: Tensor, targets: Tensor, patch_size: int) -> Tensor:
    """Mean squared error in each cell, (B, S, G), of reconstructions (B, S, C, H, W) of images (B, C, H, W)."""
    errors = patchify((drawn - targets[:, None]).flatten(0, 1), patch_size).square().mean(2)
    return errors.unflatten(0, drawn.shape[:2])

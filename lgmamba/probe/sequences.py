"""Images with one visiting order each, when their cells were read, and the errors of what was drawn of them.

Glossary: `lgmamba.probe`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.data.dataset import Dataset
from lgmamba.model import PatchMamba
from lgmamba.task.orders import last_visit, orders_of_images
from lgmamba.task.patches import patchify


@dataclass(frozen=True)
class Sequences:
    """Images with one visiting order each.

    Attributes:
        targets: (B, C, H, W) in [0, 1].
        patches: (B, G, K) all patches of each image.
        cells: (B, T) visiting order.
    """

    targets: Tensor
    patches: Tensor
    cells: Tensor

    def __getitem__(self, rows: slice) -> "Sequences":
        return Sequences(self.targets[rows], self.patches[rows], self.cells[rows])

    def __len__(self) -> int:
        return len(self.cells)

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Patches (B, stop - start, K) and cells of steps start + 1 .. stop."""
        cells = self.cells[:, start:stop]
        return self.patches.gather(1, cells[..., None].expand(-1, -1, self.patches.shape[2])), cells


def sequences_of(
    dataset: Dataset, model: PatchMamba, rows: Tensor, order: str, steps: int, repeat: int = 0
) -> Sequences:
    """Sequences of some images, in the order number `repeat` that belongs to each image."""
    cells = orders_of_images(order, *model.grid, dataset.id_hash[rows].cpu(), repeat + 1, steps)[:, repeat]
    return sequences_along(dataset, model, rows, cells)


def sequences_along(dataset: Dataset, model: PatchMamba, rows: Tensor, cells: Tensor) -> Sequences:
    """Sequences of some images in visiting orders that were drawn before, (B, T) on any device."""
    targets = dataset.images[rows].float() / 255
    return Sequences(targets, patchify(targets, model.patch_size), cells.to(targets.device))


def last_read(seq: Sequences, steps: list[int]) -> Tensor:
    """(B, S, G) number of the step, from 0, at which each cell was last read by the end of each of some steps; -1 if never."""
    at = torch.tensor(steps, device=seq.cells.device) - 1
    # One batch of all visits, (B, T, G), would be large: look at a few images at a time.
    return torch.cat([last_visit(some, seq.patches.shape[1])[:, at] for some in seq.cells.split(64)])


def errors_by_cell(drawn: Tensor, targets: Tensor, patch_size: int) -> Tensor:
    """Mean squared error in each cell, (B, S, G), of reconstructions (B, S, C, H, W) of images (B, C, H, W)."""
    errors = patchify((drawn - targets[:, None]).flatten(0, 1), patch_size).square().mean(2)
    return errors.unflatten(0, drawn.shape[:2])

"""Images with one visiting order each. Glossary: `lgmamba.tasks.draw.task`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.mixers.contract import gather_steps
from lgmamba.model.sequences import Sequences
from lgmamba.tasks.draw.patches import patchify


@dataclass(frozen=True)
class DrawSequences(Sequences):
    """Images with one visiting order each.

    Attributes:
        targets: (B, C, H, W) in [0, 1].
        patches: (B, G, K) all patches of each image, pixel values in [0, 1].
        cells: (B, T) visiting order.
        before: (B,) cell read before the first step, for the code of moves; None where a sequence starts.
        labels: (B,) int64 classes; None where nobody asks for them.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("cells",)
    TIED: ClassVar[bool] = True

    targets: Tensor | None
    patches: Tensor
    cells: Tensor
    before: Tensor | None = None
    labels: Tensor | None = None

    @property
    def n_cells(self) -> int:
        """G, cells of the grid."""
        return self.patches.shape[1]

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Patches (B, stop - start, K) and cells of steps start + 1 .. stop."""
        cells = self.cells[:, start:stop]
        return gather_steps(self.patches, cells), cells

    def cell_before(self, step: int) -> Tensor | None:
        """(B,) the cell read before step number `step`, from 0; None at the start, where the first move is zero."""
        return self.cells[:, step - 1] if step else self.before


def ages_at(last: Tensor, steps: Tensor) -> Tensor:
    """Steps since each cell was last read.

    Args:
        last: (B, S, G) 0-based number of the last step at which the cell was read, -1 if never.
        steps: (S,) steps, from 1.
    Returns:
        (B, S, G): 0 for the cell read at the step itself, -1 for a cell never read.
    """
    return torch.where(last < 0, -1, steps[:, None] - 1 - last)


def sequences_along(
    images: Tensor,
    patch_size: int,
    rows: Tensor,
    cells: Tensor,
    before: Tensor | None = None,
    labels: Tensor | None = None,
) -> DrawSequences:
    """Sequences of some of the images (N, C, H, W) uint8, in visiting orders (B, T) on their device."""
    targets = images[rows].float() / 255  # (B, C, H, W)
    return DrawSequences(targets, patchify(targets, patch_size), cells, before, labels)

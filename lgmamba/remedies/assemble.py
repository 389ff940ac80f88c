"""Assembling an image from windows of the training length: long sequences without a single step beyond it. This project's own.

A sequence of T > L0 steps is read in windows of exactly L0 steps, each from a fresh state: an ordinary pass of the kind that the
model was trained on (a length-adaptive model is told L0). Every window draws the whole image. Which cells a window read is known,
because the visiting order is part of the task, so the image is put together cell by cell from the windows that read the cell:

    x[g] = mean of x_w[g] over the windows w that read cell g; over all windows where none of them did

Every step is read (nothing is frozen or dropped), at the cost of about one ordinary pass. What is carried along is not one state
but, for each image, running sums of reconstructions: memory does not grow with T.

    consecutive   windows of consecutive steps
    cover         windows of steps that visit different cells where they can: the newest visits of all cells fill the first windows,
                  their second newest visits the next ones, and so on; inside a window steps keep their order. Prefix mode only.

There may be several groupings: each further one cuts the same steps, in random order, into other windows (in which steps keep
their order; with cover, cells still differ where they can), at the cost of one more pass. A patch that was read once is then drawn
in the company of different ones. Prefix mode only.

Glossary: `lgmamba.remedies`; B sequences, G cells, K values of a patch.
"""

from typing import Literal

import torch
from torch import Tensor

from lgmamba.model import PatchMamba
from lgmamba.model.reading import read_at_steps, reconstruct_at
from lgmamba.task.patches import patchify, unpatchify

Windows = Literal["consecutive", "cover"]
Combine = Literal["mean", "newest"]


@torch.no_grad()
def assemble(
    model: PatchMamba,
    patches: Tensor,
    cells: Tensor,
    steps: list[int],
    mode: str,
    windows: Windows = "consecutive",
    combine: Combine = "mean",
    piece: int = 64,
    groupings: int = 1,
) -> Tensor:
    """Reconstructions at several steps; arguments and result as in `lgmamba.model.reading.reconstruct_at`.

    Args:
        model, patches, cells, steps, piece: as there. Steps up to L0 are ordinary reading.
        mode: prefix, windows end at T, T - L0, T - 2 L0, ..., and the first is moved to start at the first step, so that it
            overlaps the next but is no shorter; or stream, windows end at L0, 2 L0, ..., and count once they are complete.
        windows: which steps make a window, see above.
        combine: mean over the windows that read a cell, or the newest of them alone.
        groupings: ways in which the steps are cut into windows, >= 1: the first as `windows` says, the others at random.
    Raises:
        ValueError: an unknown mode or form, cover or several groupings in stream mode, several with the newest, or steps out of
            range.
    """
    if windows not in ("consecutive", "cover") or combine not in ("mean", "newest"):
        raise ValueError(
            f"windows={windows!r}, combine={combine!r}; expected 'consecutive' or 'cover', and 'mean' or 'newest'"
        )
    if mode != "prefix" and (windows == "cover" or groupings > 1):
        raise ValueError(
            f"windows='cover' and several groupings need to know the whole sequence: mode 'prefix'; got mode={mode!r}"
        )
    if groupings < 1 or (groupings > 1 and combine == "newest"):
        raise ValueError(f"groupings >= 1, and 1 with combine='newest'; got {groupings} with combine={combine!r}")
    short = [t for t in steps if t <= model.L0]
    images = [reconstruct_at(model, patches, cells, short, mode, piece)] if short else []
    sums = _Sums(model, patches, piece)
    for T in steps[len(short) :]:
        if mode == "prefix":
            sums = _Sums(model, patches, piece)
        ahead = cells[:, : T if mode == "prefix" else T // model.L0 * model.L0]
        for n in range(groupings):
            for window in _windows(ahead, model.L0, windows, n)[sums.windows if mode == "stream" else 0 :]:
                sums.add(ahead.gather(1, window), combine)
        images.append(sums.image()[:, None])
    return torch.cat(images, dim=1)


def _windows(cells: Tensor, L0: int, windows: Windows, n: int) -> Tensor:
    """Those of the n-th grouping. Random orders are the same for all sequences of one length, whatever else is read with them."""
    if n == 0:
        return cover_windows(cells, L0) if windows == "cover" else consecutive_windows(cells, L0)
    order = torch.randperm(cells.shape[1], generator=torch.Generator().manual_seed(n)).to(cells.device)
    return cover_windows(cells, L0, order) if windows == "cover" else random_windows(cells, L0, order)


def consecutive_windows(cells: Tensor, L0: int) -> Tensor:
    """Positions (n, B, L0) of the windows of a visiting order (B, T), T >= L0: oldest window first, ascending in each."""
    B, T = cells.shape
    starts = torch.tensor([max(0, end - L0) for end in range(T, 0, -L0)][::-1], device=cells.device)
    steps = torch.arange(L0, device=cells.device)
    return (starts[:, None] + steps)[:, None].expand(-1, B, -1)


def cover_windows(cells: Tensor, L0: int, order: Tensor | None = None) -> Tensor:
    """As `consecutive_windows`, of steps that visit different cells where they can.

    Args:
        order: (T,) positions; of the visits of a cell, the first in this order go to the last windows. None: the newest first.
    """
    T = cells.shape[1]
    order = torch.arange(T - 1, -1, -1, device=cells.device) if order is None else order
    visited = cells[:, order]
    by_cell = visited.argsort(dim=1, stable=True)
    sorted_cells = visited.gather(1, by_cell)
    rank = torch.arange(T, device=cells.device) - torch.searchsorted(sorted_cells, sorted_cells)
    visits_before = torch.zeros_like(cells).scatter_(1, by_cell, rank)
    steps = order[visits_before.argsort(dim=1, stable=True).flip(1)]  # most visits before, in this order, come first
    return steps[:, consecutive_windows(cells[:1], L0)[:, 0]].transpose(0, 1).sort(dim=2).values


def random_windows(cells: Tensor, L0: int, order: Tensor) -> Tensor:
    """As `consecutive_windows`, of the steps in another order, (T,) positions."""
    return order[consecutive_windows(cells, L0)].sort(dim=2).values


class _Sums:
    """Running sums over windows, cell by cell."""

    def __init__(self, model: PatchMamba, patches: Tensor, piece: int):
        self.model, self.patches, self.piece, self.windows = model, patches, piece, 0
        self.told = None
        if model.conditioning is not None:
            self.told = torch.full((len(patches),), model.L0, device=patches.device)
        self.all = self.of_cell = torch.zeros_like(
            patches
        )  # (B, G, K) over all windows, and over those that read the cell
        self.count = torch.zeros_like(patches[..., :1])  # (B, G, 1) of the latter

    def add(self, cells: Tensor, combine: Combine) -> None:
        """Read one window, (B, L0)."""
        L0 = cells.shape[1]
        image = read_at_steps(self.model, self.patches, cells, [L0], self.told, self.piece)[:, 0]
        drawn = patchify(image, self.model.patch_size)
        was_read = torch.zeros_like(self.count).scatter_(1, cells[..., None], 1.0)
        keep = 1 - was_read if combine == "newest" else 1.0
        self.of_cell = keep * self.of_cell + was_read * drawn
        self.count = keep * self.count + was_read
        self.all, self.windows = self.all + drawn, self.windows + 1

    def image(self) -> Tensor:
        """(B, C, H, W)."""
        of_cell = self.of_cell / self.count.clamp(min=1)
        drawn = torch.where(self.count > 0, of_cell, self.all / max(1, self.windows))
        return unpatchify(drawn, *self.model.shape)

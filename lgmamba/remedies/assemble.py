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
) -> Tensor:
    """Reconstructions at several steps; arguments and result as in `lgmamba.model.reading.reconstruct_at`.

    Args:
        model, patches, cells, steps, piece: as there. Steps up to L0 are ordinary reading.
        mode: prefix, windows end at T, T - L0, T - 2 L0, ..., and the first is moved to start at the first step, so that it
            overlaps the next but is no shorter; or stream, windows end at L0, 2 L0, ..., and count once they are complete.
        windows: which steps make a window, see above.
        combine: mean over the windows that read a cell, or the newest of them alone.
    Raises:
        ValueError: an unknown mode or form, cover in stream mode, or steps out of range.
    """
    if windows not in ("consecutive", "cover") or combine not in ("mean", "newest"):
        raise ValueError(
            f"windows={windows!r}, combine={combine!r}; expected 'consecutive' or 'cover', and 'mean' or 'newest'"
        )
    if windows == "cover" and mode != "prefix":
        raise ValueError(f"windows='cover' needs to know the whole sequence: mode 'prefix'; got mode={mode!r}")
    short = [t for t in steps if t <= model.L0]
    images = [reconstruct_at(model, patches, cells, short, mode, piece)] if short else []
    sums = _Sums(model, patches, piece)
    for T in steps[len(short) :]:
        if mode == "prefix":
            sums = _Sums(model, patches, piece)
        positions = cover_windows if windows == "cover" else consecutive_windows
        ahead = cells[:, : T if mode == "prefix" else T // model.L0 * model.L0]
        for window in positions(ahead, model.L0)[sums.windows :]:
            sums.add(ahead.gather(1, window), combine)
        images.append(sums.image()[:, None])
    return torch.cat(images, dim=1)


def consecutive_windows(cells: Tensor, L0: int) -> Tensor:
    """Positions (n, B, L0) of the windows of a visiting order (B, T), T >= L0: oldest window first, ascending in each."""
    B, T = cells.shape
    starts = torch.tensor([max(0, end - L0) for end in range(T, 0, -L0)][::-1], device=cells.device)
    steps = torch.arange(L0, device=cells.device)
    return (starts[:, None] + steps)[:, None].expand(-1, B, -1)


def cover_windows(cells: Tensor, L0: int) -> Tensor:
    """As `consecutive_windows`, of steps in the order of (how many later visits their cell has, age); newest visits last."""
    T = cells.shape[1]
    newest_first = cells.flip(1)
    by_cell = newest_first.argsort(dim=1, stable=True)
    sorted_cells = newest_first.gather(1, by_cell)
    rank = torch.arange(T, device=cells.device) - torch.searchsorted(sorted_cells, sorted_cells)
    later_visits = torch.zeros_like(cells).scatter_(1, by_cell, rank)
    steps = T - 1 - later_visits.argsort(dim=1, stable=True).flip(1)  # most later visits first
    return steps[:, consecutive_windows(cells[:1], L0)[:, 0]].transpose(0, 1).sort(dim=2).values


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

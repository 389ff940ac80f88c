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

Three controls say what of this does the work, at the same cost:

    reordered     windows are the newest L0 steps again and again, each time in another order: averaging without what was read before.
                  Prefix mode only.
    take all      the mean of all windows, whichever cells they read: nothing is routed
    carried       the windows are read in one pass, each on from the state before it, and the image after each is put together in the same
                  way: routing without fresh states. Prefix mode only.

There may be several groupings: each further one cuts the same steps, in random order, into other windows (in which steps keep
their order; with cover, cells still differ where they can), at the cost of one more pass. A patch that was read once is then drawn
in the company of different ones. Prefix mode only.

Glossary: `lgmamba.remedies`; B sequences, G cells, K values of a patch.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lgmamba.model import SequenceModel, Sequences
from lgmamba.model.reading import AnyReadable
from lgmamba.model.runner import read_at_steps, run_sequence, target_lengths
from lgmamba.remedies.assemble.config import AssembleConfig
from lgmamba.remedies.remedy import Kind, Parts

Windows = Literal["consecutive", "cover", "reordered"]
Combine = Literal["mean", "newest", "all"]


@torch.no_grad()
def assemble(
    model: SequenceModel,
    sequences: Sequences,
    steps: list[int],
    mode: str,
    windows: Windows = "consecutive",
    combine: Combine = "mean",
    chunk: int = 64,
    groupings: int = 1,
    carried: bool = False,
) -> Tensor:
    """Reconstructions at several steps; arguments and result as in `lgmamba.model.runner.run_sequence`.

    Args:
        model, sequences, steps, chunk: as there. Steps up to L0 are ordinary reading.
        mode: prefix, windows end at T, T - L0, T - 2 L0, ..., and the first is moved to start at the first step, so that it
            overlaps the next but is no shorter; or stream, windows end at L0, 2 L0, ..., and count once they are complete.
        windows: which steps make a window, see above.
        combine: mean over the windows that read a cell, or the newest of them alone, or the mean over all windows.
        groupings: ways in which the steps are cut into windows, >= 1: the first as `windows` says, the others at random.
        carried: whether a window is read on from the state before it.
    Raises:
        ValueError: an unknown mode or form, a form that needs the whole sequence in stream mode, several groupings with the newest, or
            steps out of range.
    """
    if windows not in get_args(Windows) or combine not in get_args(Combine):
        raise ValueError(
            f"windows={windows!r}, combine={combine!r}; expected one of {', '.join(get_args(Windows))}, and of {', '.join(get_args(Combine))}"
        )
    if mode != "prefix" and (windows != "consecutive" or groupings > 1 or carried):
        raise ValueError(
            f"windows={windows!r}, several groupings and carried states need to know the whole sequence: mode 'prefix'; got mode={mode!r}"
        )
    if groupings < 1 or (groupings > 1 and combine == "newest"):
        raise ValueError(f"groupings >= 1, and 1 with combine='newest'; got {groupings} with combine={combine!r}")
    short = [t for t in steps if t <= model.L0]
    found = [run_sequence(model, sequences, short, mode, chunk)] if short else []
    sums = sums_of(model, sequences, chunk, combine)
    for T in steps[len(short) :]:
        if mode == "prefix":
            sums = sums_of(model, sequences, chunk, combine)
        ahead = sequences.upto(T if mode == "prefix" else T // model.L0 * model.L0)
        for n in range(groupings):
            cut = _windows(ahead, model.L0, windows, n)[sums.windows if mode == "stream" else 0 :]
            passing = _in_one_pass(model, ahead, cut, chunk) if carried else None
            for k, window in enumerate(cut):
                sums.add(ahead.take(window), combine, None if passing is None else passing[:, k])
        found.append(sums.prediction()[:, None])
    return torch.cat(found, dim=1)


def _in_one_pass(model: SequenceModel, sequences: Sequences, windows: Tensor, chunk: int) -> Tensor:
    """Predictions (B, n, *shape) at the ends of consecutive windows (n, B, L0), of one pass told L0."""
    ends = (windows[:, 0, -1] + 1).tolist()
    return read_at_steps(model, sequences, ends, target_lengths(model, len(sequences), model.L0), chunk)


def _windows(sequences: Sequences, L0: int, windows: Windows, n: int) -> Tensor:
    """Those of the n-th grouping. Random orders are the same for all sequences of one length, whatever else is read with them."""
    order = None
    if windows == "reordered":
        return reordered_windows(len(sequences), sequences.T, L0, n).to(sequences.device)
    if n:
        order = torch.randperm(sequences.T, generator=torch.Generator().manual_seed(n)).to(sequences.device)
    if windows == "cover":
        return cover_windows(sequences.cells, L0, order)
    positions = consecutive_windows(len(sequences), sequences.T, L0).to(sequences.device)
    return positions if order is None else random_windows(positions, order)


def consecutive_windows(B: int, T: int, L0: int) -> Tensor:
    """Positions (n, B, L0) of the windows of B sequences of T >= L0 steps: oldest window first, ascending in each."""
    starts = torch.tensor([max(0, end - L0) for end in range(T, 0, -L0)][::-1])
    return (starts[:, None] + torch.arange(L0))[:, None].expand(-1, B, -1)


def cover_windows(cells: Tensor, L0: int, order: Tensor | None = None) -> Tensor:
    """As `consecutive_windows`, of steps that visit different cells (B, T) where they can.

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
    windows = consecutive_windows(1, T, L0)[:, 0].to(cells.device)
    return steps[:, windows].transpose(0, 1).sort(dim=2).values


def reordered_windows(B: int, T: int, L0: int, n: int) -> Tensor:
    """Positions (windows, B, L0) of the newest L0 steps, as often as there are consecutive windows: as they come once, else in random orders."""
    generator = torch.Generator().manual_seed(n)
    orders = [torch.randperm(L0, generator=generator) for _ in range(-(-T // L0))]
    if n == 0:
        orders[0] = torch.arange(L0)
    return (T - L0 + torch.stack(orders))[:, None].expand(-1, B, -1)


def random_windows(positions: Tensor, order: Tensor) -> Tensor:
    """Windows of the steps in another order, (T,) positions, cut as `consecutive_windows` cuts them."""
    return order[positions].sort(dim=2).values


def sums_of(model: SequenceModel, sequences: Sequences, chunk: int, combine: Combine = "mean") -> "_Means":
    """Running sums over windows: cell by cell where steps show cells, of whole predictions elsewhere and where all are taken."""
    return (_Cells if sequences.TIED and combine != "all" else _Means)(model, sequences, chunk)


class _Means:
    """The mean of what the windows predict, or what the newest does."""

    def __init__(self, model: SequenceModel, sequences: Sequences, chunk: int):
        self.model, self.chunk = model, chunk
        self.windows = self.counted = 0
        self.total: Tensor | float = 0.0

    def add(self, window: Sequences, combine: Combine, prediction: Tensor | None = None) -> None:
        """Read one window of L0 steps, or take what was predicted at its end, (B, *shape)."""
        newest = combine == "newest"
        prediction = self._read(window) if prediction is None else prediction
        self.total = prediction if newest else self.total + prediction
        self.windows, self.counted = self.windows + 1, 1 if newest else self.windows + 1

    def _read(self, window: Sequences) -> Tensor:
        L0 = window.T
        return read_at_steps(self.model, window, [L0], target_lengths(self.model, len(window), L0), self.chunk)[:, 0]

    def prediction(self) -> Tensor:
        """(B, *shape)."""
        return self.total / self.counted


class _Cells(_Means):
    """The same cell by cell, over the windows that read the cell; over all of them where none did."""

    def __init__(self, model: SequenceModel, sequences: Sequences, chunk: int):
        super().__init__(model, sequences, chunk)
        self.of_cell: Tensor | float = 0.0  # (B, G, K) over windows that read the cell
        size = (len(sequences), sequences.n_cells, 1)
        self.count = torch.zeros(size, device=sequences.device, dtype=model.dtype)  # how many did

    def add(self, window: Sequences, combine: Combine, prediction: Tensor | None = None) -> None:
        prediction = self.model.split(self._read(window) if prediction is None else prediction)
        was_read = torch.zeros_like(self.count).scatter_(1, window.cells[..., None], 1.0)
        keep = 1 - was_read if combine == "newest" else 1.0
        self.of_cell = keep * self.of_cell + was_read * prediction
        self.count = keep * self.count + was_read
        self.total, self.windows = self.total + prediction, self.windows + 1

    def prediction(self) -> Tensor:
        of_cell = self.of_cell / self.count.clamp(min=1)
        return self.model.join(torch.where(self.count > 0, of_cell, self.total / max(1, self.windows)))


def build(entry: AssembleConfig, values: Any, model: AnyReadable, last: int) -> Parts:
    def reader(model: SequenceModel, sequences: Sequences, steps: list[int], chunk: int) -> Tensor:
        return assemble(
            model,
            sequences,
            steps,
            entry.mode,
            entry.windows,
            entry.take,
            chunk,
            entry.groupings,
            entry.state == "carried",
        )

    def after_L0(T: int) -> int:
        return (T if entry.mode == "prefix" else T // model.L0 * model.L0) - model.L0

    return {"reader": reader, "steps_read": after_L0}


KIND = Kind(build)

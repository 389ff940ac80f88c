"""Controls: which steps of a long sequence are read at all, so that the input stays as in training.

A remedy that does not beat `subset_random` has shown nothing. Each returns ascending positions to keep of a sequence of
length T, and all of them where T <= L0. Glossary: `lgmamba.remedies`; random_scores (B, T) are numbers in [0, 1), one for each step; cells
(B, T) is the visiting order.
"""

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Hook
from lgmamba.remedies.base import steps_of


def truncate(random_scores: Tensor, L0: int) -> Tensor:
    """The last L0 steps: (B, min(T, L0))."""
    B, T = random_scores.shape
    return torch.arange(max(0, T - L0), T, device=random_scores.device).expand(B, -1)


def reset(random_scores: Tensor, L0: int) -> Tensor:
    """The steps since the state was last set to zero, which is done after every L0 steps: (B, 1..L0)."""
    B, T = random_scores.shape
    return torch.arange((T - 1) // L0 * L0, T, device=random_scores.device).expand(B, -1)


def subset_random(random_scores: Tensor, L0: int) -> Tensor:
    """L0 steps chosen uniformly, in their order: those of the smallest scores. (B, min(T, L0))."""
    return random_scores.argsort(1)[:, :L0].sort(1).values


def subset_cover(cells: Tensor, L0: int, n_cells: int) -> Tensor:
    """The newest visit of each cell, newest cells first until L0 steps are found; then the newest of the other steps.

    Args:
        n_cells: G, cells of the grid.
    Returns:
        (B, min(T, L0)), ascending.
    """
    B, T = cells.shape
    steps = torch.arange(T, device=cells.device).expand(B, T)
    newest = torch.full((B, n_cells), -1, device=cells.device).scatter_reduce(1, cells, steps, "amax")
    is_newest = newest.gather(1, cells) == steps
    rank = steps + T * is_newest  # newest visits before all others; among them, and among the rest, newest first
    return rank.argsort(1, descending=True)[:, : min(T, L0)].sort(1).values


def freeze(L0: int) -> Hook:
    """dt <- 0 for t > L0: the state keeps what it held at L0. A control: nothing new is learned about the image."""

    def hook(call: Call) -> Call:
        return call.mask((steps_of(call) <= L0)[:, None])

    return hook

"""Visiting orders: which cell of the patch grid is read at each step; any length T, also more steps than cells.

Glossary: B sequences, T steps, gh x gw = G grid cells counted row by row.

    permutation   every cell once in random order, then a fresh random order, and so on
    cycle         one random order of the cells, repeated
    replacement   independent uniformly random cells
    raster        row by row, repeated
    snake         row by row, every other row backwards, repeated
    hilbert       along a Hilbert curve, repeated; on grids that are not a square of side 2^k, the curve of the smallest
                  such square that covers the grid, without the cells outside it

The first t steps of an order of length T are an order of length t: a longer sequence only appends.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from lgmamba.tasks.seeds import of_each, seed_of_repeat

Sampler = Callable[[int, int, int, int, torch.Generator], Tensor]


def visiting_order(name: str, gh: int, gw: int, batch: int, steps: int, generator: torch.Generator) -> Tensor:
    """Sample visiting orders.

    Args:
        name: a key of `ORDERS`.
        gh, gw: rows and columns of the grid.
        generator: source of randomness; the result lives on its device.
    Returns:
        (B, T) int64 cell numbers in 0..G-1.
    """
    if name not in ORDERS:
        raise ValueError(f"order={name!r} is unknown; expected one of {sorted(ORDERS)}")
    return ORDERS[name](gh, gw, batch, steps, generator)


def order_of_images(name: str, gh: int, gw: int, id_hash: Tensor, repeat: int, steps: int) -> Tensor:
    """Visiting order number `repeat` of each image: the same in every call, whatever other images are read with it.

    Args:
        id_hash: (M,) int64 >= 0, hash of each image's id.
    Returns:
        (M, T) int64 cell numbers, on the CPU.
    """
    return of_each(id_hash, lambda g: visiting_order(name, gh, gw, 1, steps, g)[0], lambda h: seed_of_repeat(h, repeat))


def orders_of_images(name: str, gh: int, gw: int, id_hash: Tensor, repeats: int, steps: int) -> Tensor:
    """The first `repeats` visiting orders of each image, (M, repeats, T); see `order_of_images`."""
    return torch.stack([order_of_images(name, gh, gw, id_hash, repeat, steps) for repeat in range(repeats)], dim=1)


def _permutation(gh: int, gw: int, batch: int, steps: int, generator: torch.Generator) -> Tensor:
    rounds = -(-steps // (gh * gw))
    keys = torch.rand(batch, rounds, gh * gw, generator=generator, device=generator.device)
    return keys.argsort(-1).flatten(1)[:, :steps]


def _cycle(gh: int, gw: int, batch: int, steps: int, generator: torch.Generator) -> Tensor:
    return _repeat(torch.rand(batch, gh * gw, generator=generator, device=generator.device).argsort(-1), steps)


def _replacement(gh: int, gw: int, batch: int, steps: int, generator: torch.Generator) -> Tensor:
    return torch.randint(gh * gw, (batch, steps), generator=generator, device=generator.device)


def _fixed(path: Callable[[int, int], list[tuple[int, int]]]) -> Sampler:
    """The same path for every sequence."""

    def sampler(gh: int, gw: int, batch: int, steps: int, generator: torch.Generator) -> Tensor:
        cells = torch.tensor([row * gw + col for row, col in path(gh, gw)], device=generator.device)
        return _repeat(cells.expand(batch, -1), steps)

    return sampler


def _repeat(cycle: Tensor, steps: int) -> Tensor:
    """(B, G) -> (B, T), round and round."""
    return cycle[:, torch.arange(steps, device=cycle.device) % cycle.shape[1]]


def _raster_path(gh: int, gw: int) -> list[tuple[int, int]]:
    return [(row, col) for row in range(gh) for col in range(gw)]


def _snake_path(gh: int, gw: int) -> list[tuple[int, int]]:
    return [(row, col if row % 2 == 0 else gw - 1 - col) for row in range(gh) for col in range(gw)]


def _hilbert_path(gh: int, gw: int) -> list[tuple[int, int]]:
    side = 1
    while side < max(gh, gw):
        side *= 2
    path = (_hilbert_cell(side, index) for index in range(side * side))
    return [(row, col) for row, col in path if row < gh and col < gw]


def _hilbert_cell(side: int, index: int) -> tuple[int, int]:
    """Row and column of the index-th point of the Hilbert curve on a square of side 2^k (the usual bit recursion)."""
    row = col = 0
    square = 1
    while square < side:
        right = 1 & (index // 2)
        down = 1 & (index ^ right)
        if down == 0:
            if right == 1:
                row, col = square - 1 - row, square - 1 - col
            row, col = col, row
        row, col = row + square * down, col + square * right
        index //= 4
        square *= 2
    return row, col


ORDERS: dict[str, Sampler] = {
    "permutation": _permutation,
    "cycle": _cycle,
    "replacement": _replacement,
    "raster": _fixed(_raster_path),
    "snake": _fixed(_snake_path),
    "hilbert": _fixed(_hilbert_path),
}


def last_visits(cells: Tensor, n_cells: int, steps: Tensor) -> Tensor:
    """When each cell was last visited, by the end of some steps.

    Args:
        cells: (B, T) visiting order.
        steps: (S,) steps from 1 to T, ascending.
    Returns:
        (B, S, G) int64: the number, from 0, of the latest step by then at which the cell was read, -1 if never.
    Raises:
        ValueError: there are no steps, they do not ascend, or there are fewer in the order.
    """
    stops = steps.tolist()
    if not stops or stops != sorted(set(stops)) or not 1 <= stops[0] <= stops[-1] <= cells.shape[1]:
        raise ValueError(f"steps={stops}: expected ascending steps from 1 to {cells.shape[1]}")
    numbers = torch.arange(stops[-1], device=cells.device).expand(len(cells), -1)
    last = torch.full((len(cells), n_cells), -1, dtype=torch.int64, device=cells.device)
    found = []
    for start, stop in pairwise([0, *stops]):  # a maximum of what came since, not one over all steps of each cell
        last = last.scatter_reduce(1, cells[:, start:stop], numbers[:, start:stop], "amax")
        found.append(last)
    return torch.stack(found, dim=1)

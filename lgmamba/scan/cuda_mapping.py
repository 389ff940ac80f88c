"""How the CUDA scan spreads its work over threads and over time, chosen by shape. The terms are those of `cuda_scan.cu`.

The tables and constants here were measured on an NVIDIA H100 80GB HBM3 (132 multiprocessors) on 2026-11-26 with CUDA
13.0 and torch 2.11.0, in bfloat16 with gate and softplus: `benchmarks/scan_gpu_tune.py` makes the measurements.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor

from lgmamba.scan.cuda_loader import multiprocessors

CHUNK = 16
"""Steps between the states kept for the backward pass (8 measured no faster, for twice the memory)."""

TABLE: dict[str, dict[int, tuple[tuple[float, ...], ...]]] = {
    "forward": {
        4: ((4, 2, 4, 8, 4, 12),),
        8: ((4, 2, 4, 8, 4, 13),),
        16: ((8, 2, 4, 8, 4, 17, 150), (4, 2, 4, 16, 4, 15, 96), (4, 1, 4, 16, 4, 17)),
        32: ((8, 2, 4, 16, 3, 19),),
        64: ((8, 2, 4, 16, 3, 21),),
        128: ((8, 2, 8, 8, 2, 20),),
        256: ((8, 2, 8, 8, 2, 17),),
    },
    "backward": {
        4: ((4, 2, 4, 4, 2, 3),),
        8: ((4, 2, 4, 4, 3, 3.6),),
        16: ((8, 2, 4, 4, 2, 5.1), (4, 2, 4, 4, 3, 5.5), (4, 1, 4, 8, 3, 5.7)),
        32: ((8, 2, 4, 4, 2, 5.7),),
        64: ((8, 2, 4, 4, 2, 6),),
        128: ((8, 2, 8, 4, 1, 4.5),),
        256: ((8, 2, 8, 4, 1, 3.8),),
    },
    "ends": {
        4: ((4, 2, 4, 16, 5, 12),),
        8: ((4, 2, 4, 16, 4, 13),),
        16: ((4, 2, 4, 16, 5, 20),),
        32: ((8, 1, 4, 16, 4, 20),),
        64: ((8, 1, 4, 16, 4, 20),),
        128: ((8, 1, 4, 16, 4, 20),),
        256: ((8, 1, 4, 16, 4, 20),),
    },
}
"""Kernel -> NP -> mappings worth a try: NT, CT, WARPS, T, MIN_BLOCKS, and the rate of a busy multiprocessor in thousands
of (step, channel, state) per microsecond."""

UNCUT = 128
"""Sequences of at most so many steps stay in one piece: masked steps then equal dropped ones to the bit."""
START_STEPS = 16
"""What the start and the end of a walk cost, in steps."""
CARRY_US, START_US = 3.0, 12.0
"""What a cut costs in microseconds: two launches more, and, with too few blocks for an early start of the walk, that."""
MAX_PIECES = 65535
"""Of a sequence: the grid's size along y."""


@dataclass(frozen=True)
class Mapping:
    """How one kernel spreads its work over threads; the names are those of cuda_scan.cu."""

    NP: int
    NT: int
    CT: int
    WARPS: int
    T: int
    MIN_BLOCKS: int
    K: int = CHUNK

    @property
    def channels_per_warp(self) -> int:
        return 32 * self.NT // self.NP * self.CT

    def blocks(self, width: int) -> int:
        """Blocks needed for a group of `width` channels."""
        return -(-width // (self.WARPS * self.channels_per_warp))

    def ends_bytes(self) -> int:
        """Shared memory of a block of `scan_ends`: two chunks of B or C, dt and dt * x of a tile per warp."""
        return 4 * (2 * self.K * self.NP + self.WARPS * self.T * self.channels_per_warp * 2)

    def forward_bytes(self) -> int:
        """Shared memory of a block of the forward: two chunks of B and C, dt and dt * x of a tile per warp."""
        return 4 * (2 * self.K * 2 * self.NP + self.WARPS * self.T * self.channels_per_warp * 2)

    def backward_bytes(self) -> int:
        """Shared memory of a block of the backward: B and C, sums over channels, states before tiles, `WarpSteps`."""
        tile_states = (self.K // self.T - 1) * 32 * self.WARPS * self.CT * self.NT
        steps = self.WARPS * 6 * self.K * self.channels_per_warp
        summed = self.K if self.NP <= 16 else 2 * self.T  # SUM_BUFFERS * SUM_STEPS of cuda_scan_backward.cu
        return 4 * (self.K * 2 * self.NP + summed * self.WARPS * 2 * self.NP + tile_states + steps)


@dataclass(frozen=True)
class Plan:
    """The mapping of the walk, that of the first walk over pieces, and the steps of a piece (>= L: one piece)."""

    walk: Mapping
    ends: Mapping
    piece: int

    def fills(self, blocks: int, device: int) -> bool:
        """Whether the walk's blocks may start before the kernel before them ends."""
        return fills(self.walk, blocks, multiprocessors(device))

    def items_per_block(self, items: int, blocks_d: int, device: int) -> int:
        """How many pieces of sequences a block of the backward takes, to keep the parts of dA few; four waves stay."""
        return max(1, items * blocks_d // (multiprocessors(device) * self.walk.MIN_BLOCKS * 4))


def choose_plan(backward: bool, rows, N: int, G: int, device: int) -> Plan:
    """The plan for these tensors of shape (B, L, D), None among them absent, whose channels form G groups."""
    B, L, D = rows[0].shape
    pairs = D // G % 2 == 0 and all(in_pairs(v) for v in rows if v is not None)
    return cheapest_plan("backward" if backward else "forward", B, L, D // G, G, N, pairs, multiprocessors(device))


def padded_states(N: int) -> int:
    """The states that the kernels compute for N: a power of two, at least 4."""
    return max(4, 1 << (N - 1).bit_length())


@cache
def cheapest_plan(kernel: str, B: int, L: int, width: int, G: int, N: int, pairs: bool, processors: int) -> Plan:
    """The plan of least estimated time for G groups of `width` channels, over the table's mappings and all pieces.

    `pairs`: whether two neighbouring channels can be read at once everywhere.
    """
    NP = padded_states(N)
    ends, ends_speed = table_mappings("ends", NP, width, pairs)[0]
    # Pieces that differ: a length L // P, rounded up to whole chunks, for every number of pieces P.
    most = min(L // CHUNK, MAX_PIECES) if L > UNCUT else 1
    pieces = sorted({-(-L // (P * CHUNK)) * CHUNK for P in range(2, most + 1)}, reverse=True)
    best, least = Plan(ends, ends, L), math.inf
    for walk, speed in table_mappings(kernel, NP, width, pairs):
        for piece in (L, *(p for p in pieces if p < L)):
            P = -(-L // piece)
            blocks = B * P * G * walk.blocks(width)
            cost = _microseconds(walk, speed, blocks, piece, processors)
            if P > 1:
                cost += CARRY_US if fills(walk, blocks, processors) else CARRY_US + START_US
                cost += _microseconds(ends, ends_speed, B * (P - 1) * G * ends.blocks(width), piece, processors)
            if cost < least:
                best, least = Plan(walk, ends, piece), cost
    return best


def fills(mapping: Mapping, blocks: int, processors: int) -> bool:
    """Whether blocks fill a GPU: fewer would crowd on some multiprocessors if they started before others ended."""
    return blocks >= 0.85 * mapping.MIN_BLOCKS * processors


def table_mappings(
    kernel: str, NP: int, width: int, pairs: bool, table=TABLE
) -> list[tuple[Mapping, tuple[float, ...]]]:
    """The table's mappings, each with its rate and when it is reached, with no more warps in a block than a group of channels keeps busy."""
    made = []
    for NT, CT, WARPS, T, MIN_BLOCKS, *speed in table[kernel][NP]:
        mapping = Mapping(NP, NT, CT if pairs else 1, WARPS, T, MIN_BLOCKS)
        while mapping.WARPS > 1 and mapping.WARPS // 2 * mapping.channels_per_warp >= width:
            mapping = replace(mapping, WARPS=mapping.WARPS // 2, MIN_BLOCKS=mapping.MIN_BLOCKS * 2)
        made.append((mapping, (*speed, 128)[:2]))
    return made


def _microseconds(mapping: Mapping, speed: tuple[float, ...], blocks: int, steps: int, processors: int) -> float:
    """Estimated time of `blocks` blocks that walk `steps` steps each, in rounds of as many as a multiprocessor holds."""
    rounds, rest = divmod(-(-blocks // processors), mapping.MIN_BLOCKS)
    per_lane, (rate, full) = mapping.NT * mapping.CT, speed

    def busy(resident: int) -> float:
        return min(1.0, math.sqrt(resident * mapping.WARPS * per_lane / full))

    load = rounds * mapping.MIN_BLOCKS / busy(mapping.MIN_BLOCKS) + (rest / busy(rest) if rest else 0.0)
    return (steps + START_STEPS) * load * 32 * mapping.WARPS * per_lane / (1000 * rate)


def in_pairs(v: Tensor) -> bool:
    """Whether two neighbouring channels can be read at once."""
    strides = (s for s, size in zip(v.stride()[:2], v.shape, strict=False) if size > 1)
    return v.data_ptr() % (2 * v.element_size()) == 0 and all(s % 2 == 0 for s in strides)

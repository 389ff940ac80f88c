"""How the CUDA scan spreads its work over threads, chosen by shape. The terms are those of `cuda_scan.cu`."""

from dataclasses import dataclass

from torch import Tensor

from lgmamba.scan.cuda_loader import multiprocessors

CHUNK = 16
"""Steps between the states kept for the backward pass."""
FEW_WARPS = 12
"""Warps per multiprocessor below which latency, not arithmetic, limits: then more registers and longer tiles (measured)."""


@dataclass(frozen=True)
class Mapping:
    """How one kernel spreads its work; the names are those of cuda_scan.cu."""

    NP: int
    CT: int
    WARPS: int
    T: int
    MIN_BLOCKS: int

    @property
    def states_per_thread(self) -> int:
        return 8 if self.NP > 128 else 4

    @property
    def channels_per_warp(self) -> int:
        return 32 * self.states_per_thread // self.NP * self.CT

    def blocks(self, D: int) -> int:
        """Blocks needed for D channels."""
        return -(-D // (self.WARPS * self.channels_per_warp))

    def forward_bytes(self) -> int:
        """Shared memory of a block of the forward: two chunks of B and C, dt and dt * x of a tile per warp."""
        return 4 * (2 * CHUNK * 2 * self.NP + self.WARPS * self.T * self.channels_per_warp * 2)

    def backward_bytes(self) -> int:
        """Shared memory of a block of the backward: B and C, sums over channels, states before tiles, `WarpSteps`."""
        threads = 32 * self.WARPS
        tile_states = (CHUNK // self.T - 1) * threads * self.CT * self.states_per_thread
        steps = self.WARPS * 6 * CHUNK * self.channels_per_warp
        return 4 * (CHUNK * 2 * self.NP + 2 * self.WARPS * self.T * 2 * self.NP + tile_states + steps)


def choose_mapping(backward: bool, rows, N: int, device: int) -> Mapping:
    """The mapping for these tensors of shape (B, L, D); None among them is absent."""
    NP = max(4, 1 << (N - 1).bit_length())
    B, _, D = rows[0].shape
    warps = B * D * NP // (Mapping(NP, 1, 1, 1, 1).states_per_thread * 32)  # with one channel per thread
    many = warps // 2 >= FEW_WARPS * multiprocessors(device)
    pairs = all(_in_pairs(v) for v in rows if v is not None) and NP <= 128
    if backward and not pairs:
        return Mapping(NP, CT=1, WARPS=4, T=4, MIN_BLOCKS=4 if NP <= 128 else 2)
    if backward:
        return Mapping(NP, CT=2, WARPS=4, T=4, MIN_BLOCKS=4 if many else 3)
    if pairs and many:
        return Mapping(NP, CT=2, WARPS=4, T=8, MIN_BLOCKS=5)
    return Mapping(NP, CT=2 if pairs else 1, WARPS=4, T=CHUNK, MIN_BLOCKS=4)


def samples_per_block(mapping: Mapping, B: int, D: int, device: int) -> int:
    """How many samples a block of the backward takes, to keep the parts of dA few; four waves of blocks stay."""
    return max(1, B * mapping.blocks(D) // (multiprocessors(device) * mapping.MIN_BLOCKS * 4))


def _in_pairs(v: Tensor) -> bool:
    """Whether two neighbouring channels can be read at once everywhere."""
    strides = (s for s, size in zip(v.stride()[:2], v.shape, strict=False) if size > 1)
    return v.shape[2] % 2 == 0 and v.data_ptr() % (2 * v.element_size()) == 0 and all(s % 2 == 0 for s in strides)

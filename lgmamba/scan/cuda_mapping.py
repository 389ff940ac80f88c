"""How the CUDA scan spreads its work over threads and over time, chosen by shape. The terms are those of `cuda_scan.cu`."""

from dataclasses import dataclass

from torch import Tensor

from lgmamba.scan.cuda_loader import multiprocessors


@dataclass(frozen=True)
class Mapping:
    """How one kernel spreads its work over threads; the names are those of cuda_scan.cu."""

    NP: int
    NT: int
    CT: int
    WARPS: int
    T: int
    K: int
    MIN_BLOCKS: int

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
        threads = 32 * self.WARPS
        tile_states = (self.K // self.T - 1) * threads * self.CT * self.NT
        steps = self.WARPS * 6 * self.K * self.channels_per_warp
        return 4 * (self.K * 2 * self.NP + 2 * self.WARPS * self.T * 2 * self.NP + tile_states + steps)


@dataclass(frozen=True)
class Plan:
    """The mapping of the walk, that of the first walk over pieces, and the steps of a piece (all of them: one piece)."""

    walk: Mapping
    ends: Mapping
    piece: int

    def items_per_block(self, items: int, blocks_d: int, device: int) -> int:
        """How many pieces of sequences a block of the backward takes, to keep the parts of dA few; four waves stay."""
        return max(1, items * blocks_d // (multiprocessors(device) * self.walk.MIN_BLOCKS * 4))


def padded_states(N: int) -> int:
    """States that the kernels compute for N: a power of two, at least 4."""
    return max(4, 1 << (N - 1).bit_length())


def chunk_steps(N: int) -> int:
    """Steps between the states kept for the backward pass."""
    return 16


def choose_plan(backward: bool, rows, N: int, G: int, device: int) -> Plan:
    """The plan for these tensors of shape (B, L, D), None among them absent, whose channels form G groups."""
    NP, K = padded_states(N), chunk_steps(N)
    B, L, D = rows[0].shape
    CT = 2 if D // G % 2 == 0 and all(_aligned(v, 2) for v in rows if v is not None) else 1
    NT = 8 if NP > 128 else 4
    walk = Mapping(NP, NT, CT, 4, 4 if backward else 16, K, 4)
    ends = Mapping(NP, NT, CT, 4, K, K, 5)
    return Plan(walk, ends, L)


def _aligned(v: Tensor, CT: int) -> bool:
    """Whether CT neighbouring channels can be read at once everywhere."""
    strides = (s for s, size in zip(v.stride()[:2], v.shape, strict=False) if size > 1)
    return v.data_ptr() % (CT * v.element_size()) == 0 and all(s % CT == 0 for s in strides)

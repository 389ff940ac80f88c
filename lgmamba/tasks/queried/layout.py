"""How one training sequence lies in a batch: patches, delimiter, queries, padding, every sequence with a length of its own.

Slots of a sequence of T patches and Q queries, S = L + 1 + Q for a batch whose longest sequence may have L patches:

    0 .. T-1      patches, in the order read
    T             delimiter
    T+1 .. T+Q    queries
    T+Q+1 .. S-1  padding: after everything that is looked at, in a causal stack

So shapes depend on L and Q alone, not on the lengths: a batch can be recorded as a CUDA graph, and stacked. A length token
stands before slot 0 and is no slot.
"""

import torch
from torch import Tensor

PATCH, DELIMITER, QUERY, PADDING = range(4)


def slot_kinds(lengths: Tensor, longest: int, queries: int) -> Tensor:
    """(B, S) int64: what each slot is.

    Args:
        lengths: (B,) T of each sequence, 0 to `longest`.
        longest: L.
        queries: Q.
    """
    after = torch.arange(longest + 1 + queries, device=lengths.device) - lengths[:, None]  # 0 at the delimiter
    kinds = torch.where(after < 0, PATCH, torch.where(after == 0, DELIMITER, QUERY))
    return torch.where(after > queries, PADDING, kinds)


def slot_places(read: Tensor, asked: Tensor, lengths: Tensor) -> Tensor:
    """(B, S) int64: the place of each slot's patch; 0 where there is none.

    Args:
        read: (B, L) places read; those from T on are not.
        asked: (B, Q) places asked for.
        lengths: (B,).
    """
    L, Q = read.shape[1], asked.shape[1]
    after = torch.arange(L + 1 + Q, device=lengths.device) - lengths[:, None]
    bank = torch.cat([read, asked, torch.zeros_like(asked[:, :1])], dim=1)
    slot = torch.arange(L + 1 + Q, device=lengths.device).expand_as(after)
    query = (after > 0) & (after <= Q)
    index = torch.where(after < 0, slot, torch.where(query, L - 1 + after, L + Q))
    return bank.gather(1, index)

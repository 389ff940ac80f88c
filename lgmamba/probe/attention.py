"""How channels of a hidden attention become one map, and how far back a map reaches.

The hidden attention itself is the mixer's: see `lgmamba.mixers.mamba.attention`. Glossary: `lgmamba.probe`; B samples, L steps,
D channels, R rows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

AGGREGATIONS = ("abs", "rownorm", "signed")
"""How channels become one map: mean of |alpha| (the default); mean of |alpha| with every row of every channel normalised to 1, so
that no channel dominates; |mean of alpha|, in which opposite signs cancel (what DeciMamba's figures show)."""


def aggregate(attention: Tensor, how: str) -> Tensor:
    """Channels as one map, see `AGGREGATIONS`: (B, R, D, L) -> (B, R, L), >= 0.

    Raises:
        ValueError: unknown aggregation.
    """
    if how == "abs":
        return attention.abs().mean(2)
    if how == "rownorm":
        return F.normalize(attention, p=1, dim=3).abs().mean(2)
    if how == "signed":
        return attention.mean(2).abs()
    raise ValueError(f"aggregation={how!r}; expected one of {', '.join(AGGREGATIONS)}")


def mean_distance(weight: Tensor, rows: list[int]) -> Tensor:
    """Steps back, weighted by |attention|: sum_j (i - j) w_ij / sum_j w_ij. Reading everything alike gives i / 2.

    The mean over channels of this is that of the aggregation `rownorm`.

    Args:
        weight: (..., R, L) of either sign, one map or one for each channel.
        rows: the same rows.
    Returns:
        (..., R).
    """
    back = _back(weight, rows)
    size = weight.abs()
    return (size * back).sum(-1) / size.sum(-1)


def reach(weight: Tensor, rows: list[int], share: float) -> Tensor:
    """Smallest w such that the last w steps, the row's own included, hold this share of a row's weight: (..., R) int64."""
    size = weight.abs().flip(-1).cumsum(-1)  # newest first; what lies after row i has no weight
    found = torch.searchsorted(size, share * size[..., -1:]).squeeze(-1)
    after = weight.shape[-1] - 1 - torch.tensor(rows, device=weight.device)
    return found - after + 1


def _back(weight: Tensor, rows: list[int]) -> Tensor:
    """(R, L) steps from each column back to its row; 0 after it, where there is no weight."""
    steps = torch.arange(weight.shape[-1], device=weight.device)
    return (torch.tensor(rows, device=weight.device)[:, None] - steps).clamp(min=0).to(weight.dtype)

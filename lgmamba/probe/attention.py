"""What one Mamba layer reads at a step from each earlier step: its hidden attention, and how far back that lies on average.

    alpha_ij[d] = sum_n C_i[n] exp(A[d, n] (S_i[d] - S_j[d])) dt_j[d] B_j[n]    for j <= i, else 0

with S the cumulative step size: y = alpha x + Dskip x in every channel, exactly. Entries have signs and rows do not sum to 1.
Only some rows are made, because all of them would take L x L numbers a channel. float64 where the call is.
Glossary: `lgmamba.probe`; B samples, L steps, D channels, N modes, R rows.
"""

import torch
from torch import Tensor

from lgmamba.model.plan import ScanCall


def attention_rows(call: ScanCall, rows: list[int]) -> Tensor:
    """Rows of the hidden attention of one layer, for a sequence read whole.

    Args:
        call: what the layer scans, with t0 = 0 and no state before it.
        rows: 0-based steps i.
    Returns:
        (B, R, D, L); 0 for j > i.
    Raises:
        ValueError: the call is not a whole sequence.
    """
    if call.t0 or call.h0 is not None:
        raise ValueError(f"hidden attention is of a whole sequence; this piece starts after step {call.t0}")
    total = call.dt.cumsum(1)  # (B, L, D)
    write = call.dt[..., None] * call.Bmat[:, :, None]  # (B, L, D, N)
    result = torch.zeros(*call.dt.shape[:1], len(rows), call.dt.shape[2], call.dt.shape[1]).to(call.dt)
    for r, i in enumerate(rows):
        since = total[:, i : i + 1] - total[:, : i + 1]  # (B, i + 1, D), >= 0, so that nothing overflows
        decay = torch.exp(since[..., None] * call.A)
        row = torch.einsum("bn,bjdn,bjdn->bdj", call.Cmat[:, i], decay, write[:, : i + 1])
        result[:, r, :, : i + 1] = row
    return result


def mean_distance(attention: Tensor, rows: list[int]) -> Tensor:
    """Steps back, weighted by |attention|: sum_j (i - j) |alpha_ij| / sum_j |alpha_ij|.

    Reading everything alike gives i / 2.

    Args:
        attention: (B, R, D, L) from `attention_rows`.
        rows: the same rows.
    Returns:
        (B, R, D).
    """
    steps = torch.arange(attention.shape[3], device=attention.device)
    back = torch.tensor(rows, device=attention.device)[:, None] - steps  # (R, L); negative ones have no weight
    weight = attention.abs()
    return (weight * back[:, None]).sum(3) / weight.sum(3)


def mode_distances(call: ScanCall) -> Tensor:
    """Mean distance of every single mode at every step, in linear time: (B, L, D, N).

    For one mode the read-out cancels: with a_t = exp(dt_t A), V_t = a_t (V_{t-1} + W_{t-1}) and
    W_t = a_t W_{t-1} + dt_t |B_t| give V_t / W_t.
    """
    B, L, D = call.dt.shape
    V = W = call.dt.new_zeros(B, D, call.A.shape[1])
    distances = []
    for t in range(L):
        dt = call.dt[:, t, :, None]
        a = torch.exp(dt * call.A)
        V = a * (V + W)
        W = a * W + dt * call.Bmat[:, t, None].abs()
        distances.append(V / W)
    return torch.stack(distances, dim=1)

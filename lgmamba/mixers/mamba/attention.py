"""What one Mamba layer reads at a step from each earlier step: its hidden attention, exactly, and how far back that lies.

    alpha_ij[d] = sum_n C_i[n] exp(A[d, n] (S_i[d] - S_j[d])) dt_j[d] B_j[n]    for j <= i, else 0

with S the cumulative step size: y = alpha x + Dskip x in every channel. Each channel is a head of its own; entries have signs
and rows do not sum to 1. With the gate and the convolution around the scan, the same for the mixer as a whole:

    out = W_out (M x_in + offset),   M = diag(SiLU z) (alpha + Dskip I) diag(sigmoid p) Conv

where p is the convolution's output before its SiLU (bypass adds I to the last two factors; product has diag(SiLU p) in their place, so that
the convolution is a gate). Only some rows are made, tile by tile, because all of them would take L x L numbers a channel: a tile of rows that
begins at step r is (C_i exp(A (S_i - S_r))) (exp(A (S_r - S_j)) dt_j B_j), whose exponents are all <= 0, so that nothing overflows. Sums S in
float64. Source: Ali et al. 2024 (arXiv:2403.01590), without its simplifications.
Glossary: `lgmamba.mixers`; B samples, L steps, D channels, N modes, R rows.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.mixers.mamba.mixer import MambaCall, MambaMixer


def attention_tiles(call: MambaCall, rows: list[int], span: int) -> Iterator[tuple[list[int], Tensor]]:
    """Rows of the hidden attention of one layer, for sequences read whole, a tile at a time.

    Args:
        call: what the layer scans, with t0 = 0 and no state before it.
        rows: 0-based steps i, ascending.
        span: steps from the first to the last row of a tile, at most; memory grows as B (i + R span) D N.
    Yields:
        the tile's rows, and (B, rows, D, i + 1) float64 with i the last of them; 0 for j > i.
    Raises:
        ValueError: the call is not a whole sequence, or rows are not ascending.
    """
    if call.t0 or call.h0 is not None:
        raise ValueError(f"hidden attention is of a whole sequence; this piece starts after step {call.t0}")
    if rows != sorted(set(rows)):
        raise ValueError(f"rows must be ascending; got {rows}")
    A, C = call.A.double(), call.Cmat.double()
    total = call.dt.double().cumsum(1)  # (B, L, D)
    start = 0
    while start < len(rows):
        tile = [i for i in rows[start:] if i - rows[start] <= span]
        yield tile, _tile(total, A, call.dt.double(), call.Bmat.double(), C, tile)
        start += len(tile)


def _tile(total: Tensor, A: Tensor, dt: Tensor, Bmat: Tensor, C: Tensor, tile: list[int]) -> Tensor:
    r, last = tile[0], tile[-1]
    here = total[:, tile]  # (B, R, D)
    left = C[:, tile, None] * torch.exp((here - total[:, r, None])[..., None] * A)  # (B, R, D, N)
    before = torch.exp((total[:, r, None] - total[:, : r + 1])[..., None] * A)  # (B, r + 1, D, N)
    before *= dt[:, : r + 1, :, None] * Bmat[:, : r + 1, None]
    old = torch.einsum("bidn,bjdn->bidj", left, before)
    since = here[:, :, None] - total[:, None, r + 1 : last + 1]  # (B, R, last - r, D)
    inside = torch.exp(since.clamp(min=0)[..., None] * A)
    inside *= (dt[:, r + 1 : last + 1, :, None] * Bmat[:, r + 1 : last + 1, None])[:, None]
    new = torch.einsum("bin,bijdn->bidj", C[:, tile], inside)
    later = torch.arange(r + 1, last + 1, device=dt.device) > torch.tensor(tile, device=dt.device)[:, None]
    return torch.cat([old, new.masked_fill(later[:, None], 0)], dim=3)


def attention_rows(call: MambaCall, rows: list[int], span: int = 16) -> Tensor:
    """`attention_tiles` in one tensor: (B, R, D, L)."""
    L = call.dt.shape[1]
    return torch.cat([F.pad(block, (0, L - block.shape[3])) for _, block in attention_tiles(call, rows, span)], dim=1)


def mixer_rows(mixer: MambaMixer, u: Tensor, call: MambaCall, rows: list[int], span: int = 16) -> tuple[Tensor, Tensor]:
    """Rows of the mixer as a whole, with convolution and gate: what the out-projection is given is M x_in + offset.

    Args:
        u: (B, L, d) the mixer's input; x_in is the first half of its in-projection.
        call, rows, span: as in `attention_tiles`.
    Returns:
        M (B, R, D, L), and offset (B, R, D), which the bias of the convolution adds; float64.
    """
    x_in, L = mixer.in_proj(u).chunk(2, dim=-1)[0].double(), u.shape[1]
    form = mixer.config.conv
    taps, bias = (torch.ones_like(mixer.D)[:, None], None) if form == "none" else mixer.taps()
    taps = taps.double()  # (D, W)
    bias = torch.zeros_like(taps[:, 0]) if bias is None else bias.double()
    W = taps.shape[1]
    p = F.conv1d(x_in.mT, taps[:, None], bias, padding=W - 1, groups=len(taps))[..., :L]  # (B, D, L)
    M = attention_rows(call, rows, span)
    M[:, range(len(rows)), :, rows] += mixer.D.double()  # skip
    gated = F.silu(call.z[:, rows].double())[..., None] * M
    if form == "product":  # the convolution is a gate of x_in
        return gated * F.silu(p)[:, None], torch.zeros_like(gated[..., 0])
    M = gated * p.sigmoid()[:, None]
    ahead = F.pad(M, (0, W - 1))  # what reads step j of the convolution reads its inputs j, j - 1, ..., j - W + 1
    through = sum(ahead[..., lag : lag + L] * taps[:, W - 1 - lag, None] for lag in range(W))
    if form == "bypass":
        through = through + gated
    return through, (M * bias[:, None]).sum(3)

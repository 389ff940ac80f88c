"""The oracle: the recurrence as a plain loop in torch, any dtype, any device, differentiable. Glossary: `lgmamba.scan`."""

import torch
import torch.nn.functional as F
from torch import Tensor


def unavailable(device: str) -> str | None:
    """The reference runs everywhere."""
    return None


def scan_step(
    x: Tensor, dt: Tensor, A: Tensor, Bmat: Tensor, Cmat: Tensor, Dskip: Tensor | None, h: Tensor
) -> tuple[Tensor, Tensor]:
    """Advance the selective SSM by one step.

    Args:
        x: (B, D) input after the short convolution.
        dt: (B, D) step size, >= 0 (after softplus), dimensionless.
        A: (D, N) state matrix, < 0.
        Bmat, Cmat: (B, N) or (B, G, N) input and output projections of this step, shared by all channels or by each
            of G groups of neighbouring channels.
        Dskip: (D,) skip weight; None: no skip.
        h: (B, D, N) state before the step; not modified.
    Returns:
        y: (B, D), before any gate, and the new state, (B, D, N).
    Reference: Gu & Dao 2023 (arXiv:2312.00752), eqs. 2a, 2b and 4; B in the Euler form, as mamba_ssm `selective_scan_ref`.
    """
    dA = torch.exp(dt[..., None] * A)  # (B, D, N)
    h = dA * h + (dt * x)[..., None] * _per_channel(Bmat, x.shape[1])
    y = (h * _per_channel(Cmat, x.shape[1])).sum(-1)
    return y if Dskip is None else y + Dskip * x, h


def _per_channel(projection: Tensor, D: int) -> Tensor:
    """(B, N) or (B, G, N), one row per group -> (B, D, N), or (B, 1, N) where all channels share one."""
    if projection.ndim == 2 or projection.shape[1] == 1:
        return projection.reshape(len(projection), 1, -1)
    return projection.repeat_interleave(D // projection.shape[1], dim=1)


def scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, dt_softplus, h0, states_every, return_last_state):
    """`lgmamba.scan.selective_scan` as a loop over `scan_step`; float32 inside, float64 if x is."""
    out_dtype = x.dtype
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    x, dt, A, Bmat, Cmat = (v.to(dtype) for v in (x, dt, A, Bmat, Cmat))
    Dskip = None if Dskip is None else Dskip.to(dtype)
    if dt_bias is not None:
        dt = dt + dt_bias.to(dtype)
    if dt_softplus:
        dt = F.softplus(dt)

    B, L, D = x.shape
    h = x.new_zeros(B, D, A.shape[1]) if h0 is None else h0.to(dtype)
    ys, states = [], []
    for t in range(L):
        y, h = scan_step(x[:, t], dt[:, t], A, Bmat[:, t], Cmat[:, t], Dskip, h)
        ys.append(y)
        if states_every is not None and (t + 1) % states_every == 0:
            states.append(h)
    y = torch.stack(ys, dim=1)  # (B, L, D)
    if z is not None:
        y = y * F.silu(z.to(dtype))

    result = [y.to(out_dtype)]
    if return_last_state:
        result.append(h)
    if states_every is not None:
        result.append(torch.stack(states, dim=1) if states else x.new_zeros(B, 0, D, A.shape[1]))
    return result[0] if len(result) == 1 else tuple(result)

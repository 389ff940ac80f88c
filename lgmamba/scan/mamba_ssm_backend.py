"""The official CUDA kernel (mamba_ssm) behind `lgmamba.scan.selective_scan`. Glossary: `lgmamba.scan`.

A second opinion, not the fast path. Two promises of the other backends do not hold here: the kernel sums a sequence in
groups that depend on its length, so that masked steps (dt = 0) equal dropped ones to rounding, not to the bit; and a second
derivative ends in torch's own error.

The kernel starts from a zero state, reports the state at the end only, and passes no gradient through that state.
A carried state is added afterwards: with s_t = dt_1 + ... + dt_t, the state h0 contributes exp(A s_t) h0 at step t,
which is exact because the recurrence is linear in h. All exponents are <= 0, so nothing overflows.
"""

import importlib.util
import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

INSTALL = (
    "pip install mamba-ssm --no-build-isolation with MAMBA_KEEP_CUDA_BUILD=TRUE set (needs nvcc; the default wheel no "
    "longer holds the scan kernel)"
)


def unavailable(device: str) -> str | None:
    """Why the kernel cannot run on this kind of device, or None. Calls it once: newer versions import without it."""
    if device != "cuda":
        return "the mamba_ssm kernel is CUDA only; use backend='auto' or 'reference' here"
    if importlib.util.find_spec("mamba_ssm") is None:
        return f"the package mamba_ssm is not installed; {INSTALL}"
    if not torch.cuda.is_available():
        return "torch sees no NVIDIA GPU here"
    return unproven(device)


def unproven(device: str) -> str | None:
    """What goes wrong in a small call of the official function on this device, or None."""
    x, A, projection = (torch.ones(shape, device=device) for shape in ((1, 4, 3), (4, 8), (1, 1, 8, 3)))
    try:
        y = _kernel()(x, x, -math.log(2.0) * A, projection, projection)
        halved = 8 * torch.tensor([1.0, 1.5, 1.75])  # the sum of eight states that are halved in each step and gain 1
        if not torch.allclose(y[0, 0].cpu(), halved, rtol=1e-4):
            return f"the kernel of mamba_ssm computes {y[0, 0].tolist()} here where {halved.tolist()} is right"
    except Exception as e:  # ImportError, or RuntimeError at the first call, or whatever a broken installation raises
        return f"mamba_ssm is installed without a scan kernel that runs here ({type(e).__name__}: {e}); {INSTALL}"
    return None


@cache
def _kernel():
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    return selective_scan_fn


def scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, dt_softplus, h0, states_every, return_last_state):
    """`lgmamba.scan.selective_scan` through the official kernel, in pieces where states are asked for."""
    if x.dtype == torch.float64:
        raise ValueError("backend='mamba_ssm' does not compute in float64; use backend='reference'")
    with torch.autocast(x.device.type, enabled=False):  # the sums around the kernel stay in float32
        return _scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, dt_softplus, h0, states_every, return_last_state)


def _scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, dt_softplus, h0, states_every, return_last_state):
    dtype = torch.promote_types(x.dtype, dt.dtype)  # the kernel wants one dtype for x, dt, Bmat and Cmat
    plain = h0 is None and states_every is None and not return_last_state
    if plain:
        u, delta, B, C = (v.to(dtype) for v in (x, dt, Bmat, Cmat))
        return _launch(u, delta, B, C, A, Dskip, z, dt_bias, dt_softplus).to(x.dtype)

    dt = dt.float()
    if dt_bias is not None:
        dt = dt + dt_bias.float()
    if dt_softplus:
        dt = F.softplus(dt)
    L = x.shape[1]
    piece = states_every or L
    h, ys, states = h0, [], []
    for start in range(0, L, piece):
        s = slice(start, min(start + piece, L))
        y, h = _piece(x[:, s].float(), dt[:, s], A.float(), Bmat[:, s].float(), Cmat[:, s].float(), Dskip, h)
        ys.append(y)
        if states_every is not None and s.stop - start == states_every:
            states.append(h)
    y = torch.cat(ys, dim=1)
    if z is not None:
        y = y * F.silu(z.float())
    result = [y.to(x.dtype)]
    if return_last_state:
        result.append(h)
    if states_every is not None:
        result.append(torch.stack(states, dim=1) if states else h.new_zeros(h.shape[0], 0, *h.shape[1:]))
    return tuple(result) if len(result) > 1 else result[0]


def _launch(x, dt, Bmat, Cmat, A, Dskip, z, dt_bias, dt_softplus) -> Tensor:
    last = lambda v: None if v is None else v.movedim(1, -1).contiguous()  # noqa: E731 the kernel wants steps last
    Dskip, bias = (None if v is None else v.float() for v in (Dskip, dt_bias))
    z = None if z is None else z.to(x.dtype)
    y = _kernel()(
        last(x), last(dt), A.float(), last(Bmat), last(Cmat), Dskip, last(z), bias, delta_softplus=dt_softplus
    )
    return y.transpose(1, 2)  # (B, L, D)


def _piece(x, dt, A, Bmat, Cmat, Dskip, h_in: Tensor | None) -> tuple[Tensor, Tensor]:
    """One piece from state `h_in`. The end state is computed here, outside the kernel, so that it has a gradient."""
    y = _launch(x, dt, Bmat, Cmat, A, Dskip, None, None, False)
    Bmat, Cmat = (v.repeat_interleave(x.shape[2] // v.shape[2], dim=2) for v in (Bmat, Cmat))  # (B, L, D, N)
    s = dt.cumsum(dim=1)  # (B, L, D)
    remaining = (s[:, -1:] - s)[..., None] * A  # (B, L, D, N), <= 0
    h_out = torch.einsum("bldn,bld,bldn->bdn", remaining.exp(), dt * x, Bmat)
    if h_in is not None:
        decay = (s[..., None] * A).exp()  # (B, L, D, N)
        y = y + torch.einsum("bldn,bldn,bdn->bld", decay, Cmat, h_in.float())
        h_out = h_out + decay[:, -1] * h_in.float()
    return y, h_out

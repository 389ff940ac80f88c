"""A small Mamba mixer without a short convolution as one node of autograd, on a CPU. Glossary: `lgmamba.mixers`, `lgmamba.scan`.

The arithmetic is that of `MambaMixer.fast`, to rounding, in one call of the compiled kernel and one for the gradient (`_cpu_mix.h`).
Of a mixer with few channels the way through torch's operators, and what a library for large products prepares, take longer than the
arithmetic. Deterministic as the scan is: equal inputs give equal bits, whatever the number of threads.
"""

import ctypes
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lgmamba.scan import cpu_backend, cpu_rows
from lgmamba.scan.cpu_build import load_kernel
from lgmamba.scan.cpu_interface import MixArgs
from lgmamba.scan.vmap import requires_grad

SMALL = 128
"""Channels D and width d up to which it is used; beyond, a library's products are as fast."""


def runs(u: Tensor, weights: tuple[Tensor, ...], h0: Tensor | None) -> bool:
    """Whether `mix` may be called on these."""
    small = max(weights[0].shape[1], weights[0].shape[0] // 2) <= SMALL
    return small and u.ndim == 3 and u.numel() > 0 and cpu_rows.runs((u, *weights, h0))


def mix(u: Tensor, weights: tuple[Tensor, ...], h0: Tensor | None, want_last: bool) -> tuple[Tensor, Tensor | None]:
    """In-projection, SiLU, selective scan, gate, out-projection.

    Args:
        u: (B, L, d).
        weights: in_proj (2 D, d), x_proj (R + 2 N, D), dt_proj (D, R), its bias (D,), A_log (D, N), Dskip (D,), out_proj (d, D).
        h0: (B, D, N) state before the first step, or None for zeros.
        want_last: whether the state after the last is wanted.
    Returns:
        (B, L, d), and the state (B, D, N) or None. Gradients flow to all tensors; there is no second derivative.
    """
    tensors: tuple[Any, ...] = (u, *weights, None if h0 is None else h0.transpose(1, 2))
    if requires_grad(tensors):
        out, last = cast(tuple[Tensor, Tensor], _Mix.apply(*tensors, want_last))
    else:
        out, last, _ = _forward(*tensors, want_last=want_last, train=False)
    return out, last.transpose(1, 2) if want_last else None


def _forward(
    u: Tensor,
    in_proj: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    Dskip: Tensor,
    out_proj: Tensor,
    h0: Tensor | None,
    *,
    want_last: bool,
    train: bool,
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Output, last state (B, N, D) or (0,), and what the gradient needs besides the weights and h0."""
    u = u.contiguous()
    B, L, _ = u.shape
    (D, R), N = dt_proj.shape, A_log.shape[1]
    lanes = load_kernel().lgmamba_lanes()
    low_row = -(-(R + 2 * N) // lanes) * lanes
    xz, x, low, dt = (u.new_empty(B, L, width) for width in (2 * D, D, low_row, D))
    out, A = torch.empty_like(u), -A_log.exp()
    y, last, states, checkpoints = cpu_backend.forward_outputs(x, low[:, :, None, R : R + N], 0, want_last, train)
    rows, inputs = _scanned(x, dt, A, xz, low, R, None), (A, Dskip, dt_bias, h0, None, None)
    named = dict(
        u=u, in_proj=in_proj, x_proj=x_proj, dt_proj=dt_proj, out_proj=out_proj, xz=xz, x=x, low=low, dt=dt, out=out
    )
    _launch("forward", R, rows, inputs, (y, last, states, checkpoints), named)
    return out, last, (u, xz, x, low, dt, A, y, checkpoints)


def _scanned(x: Tensor, dt: Tensor, A: Tensor, xz: Tensor, low: Tensor, R: int, dy: Tensor | None) -> tuple:
    """Rows of the scan, in the kernel's order; views."""
    D, N = A.shape
    Bmat, Cmat = (low[:, :, None, start : start + N] for start in (R, R + N))
    return x, dt, xz[:, :, D:], Bmat, Cmat, dy


def _launch(name: str, R: int, rows: tuple, inputs: tuple, outputs: tuple, named: Mapping[str, Tensor | None]) -> None:
    """Call the kernel: arguments of the scan in its order, the mixer's own by name."""
    scan, _alive = cpu_backend.arguments(True, 0, rows, inputs, outputs)
    low, u = named["low"], named["u"]
    assert low is not None and u is not None
    contiguous = {key: v.contiguous() for key, v in named.items() if v is not None}  # weights may be slices
    addresses = {key: v.data_ptr() for key, v in contiguous.items()}
    args = MixArgs(scan=scan, d=u.shape[-1], R=R, low_row=low.shape[-1], **addresses)
    getattr(load_kernel(), f"lgmamba_mix_{name}")(ctypes.byref(args))


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        *tensors, want_last = args
        out, last, saved = _forward(*tensors, want_last=want_last, train=True)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors[1:8], *saved)
        return out, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        in_proj, x_proj, dt_proj, dt_bias, _, Dskip, out_proj, u, xz, x, low, dt, A, y, checkpoints = ctx.saved_tensors
        if dlast is not None and not dlast.numel():
            dlast = None
        R = dt_proj.shape[1]
        wants_u, wants_h0 = ctx.needs_input_grad[0], ctx.needs_input_grad[8]
        gradients = cpu_backend.gradients(0b011111111 | wants_h0 << 8, x, low[:, :, None, R : R + A.shape[1]])
        _, _, dA, _, _, dskip, _, dbias, dh0 = gradients
        through_y = d_out is not None
        dy = torch.empty_like(y) if through_y else None
        made = dict(din_proj=in_proj, dx_proj=x_proj, ddt_proj=dt_proj)
        made = {key: torch.empty_like(v, memory_format=torch.contiguous_format) for key, v in made.items()}
        dout_proj = torch.empty_like(out_proj, memory_format=torch.contiguous_format) if through_y else None
        du = torch.empty_like(u) if wants_u else None
        named = dict(u=u, in_proj=in_proj, x_proj=x_proj, dt_proj=dt_proj, out_proj=out_proj, d_out=d_out)
        named |= dict(xz=xz, x=x, low=low, dt=dt, dy=dy, dxz=torch.empty_like(xz), dlow=torch.empty_like(low), du=du)
        rows, inputs = _scanned(x, dt, A, xz, low, R, dy), (A, Dskip, dt_bias, None, dlast, None)
        outputs = (y, None, None, checkpoints, *gradients)
        _launch("backward", R, rows, inputs, outputs, named | made | {"dout_proj": dout_proj})
        to_weights = (made["din_proj"], made["dx_proj"], made["ddt_proj"], dbias, dA * A, dskip, dout_proj)
        return du, *to_weights, dh0 if wants_h0 else None, None

"""The scan on an NVIDIA GPU as a custom operator around run-time compiled kernels. Glossary: `lgmamba.scan`.

`lgmamba::scan_cuda` and `lgmamba::scan_cuda_backward` take x, dt, z, Bmat and Cmat in float32, bfloat16 or float16,
each in its own dtype (Bmat and Cmat in one) and with any strides, and everything else in float32; `scan` casts around
them, under autograd. Bmat and Cmat are (B, L, G, N): channel c uses group c // (D / G). How work is spread over threads
and time is told in `cuda_scan.cu`, chosen in `cuda_mapping.py` and launched in `cuda_launch.py`.

The samples may be R runs of B / R neighbouring ones, each with its own A (R, D, N), Dskip (R, D) and dt_bias (R, D). That
is how `torch.vmap` is served: the axis that it adds is folded into the batch, where nothing moves.

Deterministic: all sums, those over channels (dBmat, dCmat) and over samples (dA, dDskip, ddt_bias) included, are added
in an order that depends on shapes and the GPU model only; there are no atomic additions.
"""

import torch
from torch import Tensor

from lgmamba.scan import cuda_launch, cuda_mapping, vmap
from lgmamba.scan.cuda_launch import checkpoint_shape, dense, rows
from lgmamba.scan.cuda_loader import TYPES, unavailable

__all__ = ["scan", "unavailable"]

_INPUTS = ("x", "dt", "A", "Bmat", "Cmat", "Dskip", "z", "dt_bias", "h0")
_OF_A_RUN = ("A", "Dskip", "dt_bias")
"""Inputs that all samples of a run share; the others have one entry a sample."""


def scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, dt_softplus, h0, states_every, return_last_state):
    """`lgmamba.scan.selective_scan` through the compiled kernels.

    Raises:
        ValueError: x is float64.
    """
    if x.dtype not in TYPES:
        raise ValueError(f"backend='cuda' computes in float32, x is {x.dtype}; use backend='reference'")
    x, dt, z = (v if v is None or v.dtype in TYPES else v.float() for v in (x, dt, z))
    projected = torch.promote_types(Bmat.dtype, Cmat.dtype)
    Bmat, Cmat = (v.to(projected if projected in TYPES else torch.float32) for v in (Bmat, Cmat))
    A, Dskip, dt_bias, h0 = (v if v is None else v.float() for v in (A, Dskip, dt_bias, h0))
    tensors = (x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, h0)
    train = vmap.requires_grad(tensors)
    y, last, states, _ = torch.ops.lgmamba.scan_cuda(*tensors, dt_softplus, states_every or 0, return_last_state, train)
    result = [y]
    if return_last_state:
        result.append(last)
    if states_every is not None:
        result.append(states)
    return result[0] if len(result) == 1 else tuple(result)


def _forward_outputs(x, A, states_every, return_last_state, train) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (B, L, D), N = x.shape, A.shape[-1]
    last = (B, D, N) if return_last_state else (0,)
    states = (B, L // states_every, D, N) if states_every else (0,)
    checkpoints = checkpoint_shape(x, A) if train else (0,)
    return x.new_empty((B, L, D)), *(A.new_empty(shape) for shape in (last, states, checkpoints))


@torch.library.custom_op("lgmamba::scan_cuda", mutates_args=(), device_types="cuda")
def _forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    Bmat: Tensor,
    Cmat: Tensor,
    Dskip: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    dt_softplus: bool,
    states_every: int,
    return_last_state: bool,
    train: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output (B, L, D), last state (B, D, N), states (B, L // k, D, N), checkpoints; (0,) where not asked for."""
    y, last, states, checkpoints = _forward_outputs(x, A, states_every, return_last_state, train)
    x, dt, z = rows(x), rows(dt), rows(z)
    A, Dskip, dt_bias, h0 = (dense(v) for v in (A, Dskip, dt_bias, h0))
    plan = cuda_mapping.choose_plan(False, (x, dt, z), A.shape[-1], Bmat.shape[2], x.get_device())
    inputs = dict(x=x, dt=dt, z=z, Bmat=Bmat, Cmat=Cmat, A=A, Dskip=Dskip, dt_bias=dt_bias, h0=h0)
    outputs = dict(y=y, last=last, states=states, checkpoints=checkpoints)
    cuda_launch.forward(inputs, outputs, plan, dt_softplus, states_every)
    return y, last, states, checkpoints


@_forward.register_fake
def _(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, h0, dt_softplus, states_every, return_last_state, train):
    return _forward_outputs(x, A, states_every, return_last_state, train)


def _gradients(x, dt, A, Bmat, Dskip, z, dt_bias, has_h0: bool) -> list[Tensor]:
    """One tensor per entry of `_INPUTS`, (0,) where the input is absent."""
    (B, L, D), N, absent = x.shape, A.shape[-1], (0,)
    shapes = (
        *((x, (B, L, D)), (dt, (B, L, D)), (A, A.shape), (Bmat, Bmat.shape), (Bmat, Bmat.shape)),
        (A, absent if Dskip is None else Dskip.shape),
        (x, absent) if z is None else (z, (B, L, D)),
        (A, absent if dt_bias is None else dt_bias.shape),
        (A, (B, D, N) if has_h0 else absent),
    )
    return [like.new_empty(shape) for like, shape in shapes]


@torch.library.custom_op("lgmamba::scan_cuda_backward", mutates_args=(), device_types="cuda")
def _backward(
    dy: Tensor | None,
    dlast: Tensor | None,
    dstates: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    Bmat: Tensor,
    Cmat: Tensor,
    Dskip: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    checkpoints: Tensor,
    dt_softplus: bool,
    states_every: int,
) -> list[Tensor]:
    """Gradients in the order of `_INPUTS`, (0,) where the input is absent."""
    grads = _gradients(x, dt, A, Bmat, Dskip, z, dt_bias, h0 is not None)
    x, dt, z, dy = (rows(v) for v in (x, dt, z, dy))
    A, Dskip, dt_bias, h0, dlast, dstates = (dense(v) for v in (A, Dskip, dt_bias, h0, dlast, dstates))
    plan = cuda_mapping.choose_plan(True, (x, dt, z, dy), A.shape[-1], Bmat.shape[2], x.get_device())
    inputs = dict(x=x, dt=dt, z=z, Bmat=Bmat, Cmat=Cmat, A=A, Dskip=Dskip, dt_bias=dt_bias, h0=h0)
    inputs |= dict(dy=dy, dlast=dlast, dstates=dstates, checkpoints=checkpoints)
    names = ("dx", "ddt", "dA", "dBmat", "dCmat", "dDskip", "dz", "dbias", "dh0")
    cuda_launch.backward(inputs, dict(zip(names, grads, strict=True)), plan, dt_softplus, states_every)
    return grads


@_backward.register_fake
def _(dy, dlast, dstates, x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, h0, checkpoints, dt_softplus, states_every):
    return _gradients(x, dt, A, Bmat, Dskip, z, dt_bias, h0 is not None)


def _save(ctx, inputs, output) -> None:
    *tensors, dt_softplus, states_every, _, train = inputs
    ctx.set_materialize_grads(False)
    ctx.dt_softplus, ctx.states_every, ctx.train = dt_softplus, states_every, train
    ctx.save_for_backward(*tensors, output[-1])


def _differentiate(ctx, dy, dlast, dstates, _):
    if not ctx.train:
        raise RuntimeError("lgmamba::scan_cuda was called with train=False, so there is nothing to differentiate from")
    *tensors, checkpoints = ctx.saved_tensors
    dlast, dstates = (None if v is None or v.numel() == 0 else v for v in (dlast, dstates))
    grads = torch.ops.lgmamba.scan_cuda_backward(
        dy, dlast, dstates, *tensors, checkpoints, ctx.dt_softplus, ctx.states_every
    )
    required = ctx.needs_input_grad[: len(_INPUTS)]
    return *(g if wanted else None for g, wanted in zip(grads, required, strict=True)), None, None, None, None


_forward.register_autograd(_differentiate, setup_context=_save)


@_forward.register_vmap
def _(info, in_dims, *args):
    tensors, options = args[: len(_INPUTS)], args[len(_INPUTS) :]
    batched = vmap.leading(tensors, in_dims, info.batch_size)
    folded = [v if name in _OF_A_RUN else vmap.fold(v) for name, v in zip(_INPUTS, batched, strict=True)]
    return vmap.unfold(torch.ops.lgmamba.scan_cuda(*folded, *options), info.batch_size)


def _no_double_backward(ctx, *_):
    raise RuntimeError("selective_scan with backend='cuda' has no second derivative; use backend='reference' for it")


_backward.register_autograd(_no_double_backward)

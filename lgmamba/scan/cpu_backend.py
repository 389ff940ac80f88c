"""The scan on a CPU as a custom operator around a compiled kernel (`_cpu_kernel.cpp`). Glossary: `lgmamba.scan`.

`lgmamba::scan_cpu` and `lgmamba::scan_cpu_backward` take and give float32 tensors in the kernel's layout: Bmat and Cmat
are (B, L, G, N), states are (B, N, D), channels last, because channels are the SIMD axis. `scan` casts and transposes
around them, under autograd.

Deterministic: two calls with equal inputs give equal bits, whatever `torch.set_num_threads` says; every sum has an
order that depends on shapes only. A group of channels has the bits of a call with this group alone, in all outputs and
gradients. Another processor (another SIMD width) or compiler may give other last bits.
"""

import ctypes

import torch
from torch import Tensor

from lgmamba.scan import vmap
from lgmamba.scan.cpu_build import load_kernel
from lgmamba.scan.cpu_interface import ROWS, Args
from lgmamba.scan.cpu_operator import register_operator

CHUNK_STATES, MIN_CHUNK, MAX_CHUNK = 1024, 16, 64
"""Steps that the kernel reads and sums together: `CHUNK_STATES // N` within the bounds (measured; caches)."""

STRETCH = 16
"""Steps between the states kept for the backward pass, which recomputes as many in the L1 cache (measured); where a chunk
is no multiple of it, a chunk's."""

_STATES_TOGETHER = 4
"""The kernel pads states to a multiple of it, and a group's channels to its SIMD width; in the checkpoints only."""


def unavailable(device: str) -> str | None:
    """Why the compiled kernel cannot run on this kind of device, or None. Builds and proves it at the first call.

    Raises:
        BuildError: it cannot be built, with the reason.
    """
    if device != "cpu":
        return f"it computes on a CPU, not on {device}"
    load_kernel()
    return None


def scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, dt_softplus, h0, states_every, return_last_state):
    """`lgmamba.scan.selective_scan` through the compiled kernel.

    Raises:
        ValueError: x is float64.
    """
    if x.dtype == torch.float64:
        raise ValueError("backend='cpu' computes in float32, x is float64; use backend='reference' (or 'auto')")
    tensors = [v if v is None else v.float() for v in (x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, h0)]
    if h0 is not None:
        tensors[-1] = tensors[-1].transpose(1, 2)  # (B, N, D)
    train = vmap.requires_grad(tensors)
    y, last, states, _ = torch.ops.lgmamba.scan_cpu(*tensors, dt_softplus, states_every or 0, return_last_state, train)
    result = [y.to(x.dtype)]
    if return_last_state:
        result.append(last.transpose(1, 2))  # (B, D, N)
    if states_every is not None:
        result.append(states.transpose(2, 3))  # (B, L // k, D, N)
    return result[0] if len(result) == 1 else tuple(result)


_DIFFERENTIABLE = 9
"""The leading arguments of `scan_cpu`, in the order of `GRADS`."""


def _chunk(N: int) -> int:
    return max(MIN_CHUNK, min(MAX_CHUNK, CHUNK_STATES // N))


def _stretch(N: int) -> int:
    """A chunk is a whole number of stretches."""
    return _chunk(N) if _chunk(N) % STRETCH else STRETCH


def arguments(dt_softplus: bool, states_every: int, rows, inputs, outputs) -> tuple[Args, list[Tensor]]:
    """The kernel's arguments from tensors in the order of `ROWS`, `INPUTS` and (`OUTPUTS`, `GRADS`); None is absent.

    Returns:
        them, and copies that must outlive the call.
    """
    (B, L, D), (G, N) = rows[0].shape, rows[ROWS.index("Bmat")].shape[2:]
    fields = [B, L, D, G, N, min(L, _chunk(N)), min(L, _stretch(N)), states_every, dt_softplus, torch.get_num_threads()]
    alive = []
    for v in rows:  # any strides, but the last axis must be contiguous
        if v is None:
            fields += (0, 0, 0, 0)
            continue
        strides = _float32(v).stride()
        if strides[-1] != 1:
            v = v.contiguous()
            alive.append(v)
            strides = v.stride()
        fields += (v.data_ptr(), *strides[:3])  # the last is read where there are groups
    for v in inputs:
        if v is not None:
            v = _float32(v).contiguous()
            alive.append(v)
        fields.append(0 if v is None else v.data_ptr())
    fields += (0 if v is None else v.data_ptr() for v in outputs)  # of an empty tensor: 0
    return Args(*fields), alive


def _launch(kernel, *given) -> None:
    """Call the kernel with `arguments` of what is given."""
    args, _alive = arguments(*given)
    kernel(ctypes.byref(args))


def _float32(v: Tensor) -> Tensor:
    if v.dtype is not torch.float32:
        raise ValueError(f"the operators lgmamba::scan_cpu* take float32 only, got {v.dtype}; selective_scan casts")
    return v


def forward_outputs(x, Bmat, states_every, return_last_state, train) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (B, L, D), (G, N) = x.shape, Bmat.shape[2:]
    last = (B, N, D) if return_last_state else (0,)
    states = (B, L // states_every, N, D) if states_every else (0,)
    checkpoints = (0,)
    if train:
        lanes = load_kernel().lgmamba_lanes()
        state = -(-N // _STATES_TOGETHER) * _STATES_TOGETHER * G * -(-(D // G) // lanes) * lanes
        checkpoints = (B, -(-L // _stretch(N)) * state)  # one axis: torch.export takes a length of 1 for a constant
    return tuple(x.new_empty(shape) for shape in ((B, L, D), last, states, checkpoints))


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
    """Output (B, L, D), last state (B, N, D), states (B, L // k, N, D), checkpoints; (0,) where not asked for."""
    y, last, states, checkpoints = forward_outputs(x, Bmat, states_every, return_last_state, train)
    rows, inputs = (x, dt, z, Bmat, Cmat, None), (A, Dskip, dt_bias, h0, None, None)
    _launch(load_kernel().lgmamba_forward, dt_softplus, states_every, rows, inputs, (y, last, states, checkpoints))
    return y, last, states, checkpoints


def _fake_forward(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, h0, dt_softplus, states_every, return_last_state, train):
    return forward_outputs(x, Bmat, states_every, return_last_state, train)


def gradients(needed: int, x: Tensor, Bmat: Tensor) -> tuple[Tensor, ...]:
    """One tensor per entry of `GRADS`, (0,) where bit i of `needed` is not set."""
    (B, L, D), (G, N) = x.shape, Bmat.shape[2:]
    BLD, BLGN = (B, L, D), (B, L, G, N)
    shapes = (BLD, BLD, (D, N), BLGN, BLGN, (D,), BLD, (D,), (B, N, D))
    return tuple(x.new_empty(shape if needed >> i & 1 else (0,)) for i, shape in enumerate(shapes))


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
    checkpoints: Tensor,
    dt_softplus: bool,
    states_every: int,
    needed: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients in the order of `GRADS`, (0,) where bit i of `needed` is not set."""
    grads = gradients(needed, x, Bmat)
    rows, inputs = (x, dt, z, Bmat, Cmat, dy), (A, Dskip, dt_bias, None, dlast, dstates)
    outputs = (None, None, None, checkpoints, *grads)
    _launch(load_kernel().lgmamba_backward, dt_softplus, states_every, rows, inputs, outputs)
    return grads


def _fake_backward(
    dy, dlast, dstates, x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, checkpoints, dt_softplus, states_every, needed
):
    return gradients(needed, x, Bmat)


def _save(ctx, inputs, output) -> None:
    *tensors, dt_softplus, states_every, _, train = inputs
    ctx.set_materialize_grads(False)
    ctx.dt_softplus, ctx.states_every, ctx.train = dt_softplus, states_every, train
    ctx.save_for_backward(*tensors[:-1], output[-1])


def _differentiate(ctx, dy, dlast, dstates, _):
    if not ctx.train:
        raise RuntimeError("lgmamba::scan_cpu was called with train=False, so there is nothing to differentiate from")
    *tensors, checkpoints = ctx.saved_tensors
    required = ctx.needs_input_grad[:_DIFFERENTIABLE]
    needed = sum(1 << i for i, is_required in enumerate(required) if is_required)
    if not (ctx.states_every and dstates is not None and dstates.numel()):
        dstates = None
    if dlast is not None and not dlast.numel():
        dlast = None
    grads = torch.ops.lgmamba.scan_cpu_backward(
        dy, dlast, dstates, *tensors, checkpoints, ctx.dt_softplus, ctx.states_every, needed
    )
    return *(g if is_required else None for g, is_required in zip(grads, required, strict=True)), None, None, None, None


def _no_double_backward(ctx, *_):
    raise RuntimeError("selective_scan with backend='cpu' has no second derivative; use backend='reference' for it")


register_operator("lgmamba::scan_cpu", "cpu", _forward, _fake_forward, _differentiate, _save)
register_operator("lgmamba::scan_cpu_backward", "cpu", _backward, _fake_backward, _no_double_backward, None)

"""The scan on an NVIDIA GPU as a custom operator around run-time compiled kernels. Glossary: `lgmamba.scan`.

`lgmamba::scan_cuda` and `lgmamba::scan_cuda_backward` take x, dt, z, Bmat and Cmat in float32, bfloat16 or float16,
each in its own dtype (Bmat and Cmat in one) and with any strides, and everything else in float32; `scan` casts around
them, under autograd. How work is spread over threads is told in `cuda_scan.cu` and chosen in `cuda_mapping.py`.

Deterministic: all sums, those over channels (dBmat, dCmat) and over samples (dA, dDskip, ddt_bias) included, are added
in an order that depends on shapes and the GPU model only; there are no atomic additions.
"""

import ctypes

import torch
from torch import Tensor

from lgmamba.scan.cuda_loader import TYPES, Kernel, unavailable
from lgmamba.scan.cuda_mapping import CHUNK, Mapping, choose_mapping, samples_per_block

__all__ = ["scan", "unavailable"]

_INPUTS = ("x", "dt", "A", "Bmat", "Cmat", "Dskip", "z", "dt_bias", "h0")
_FORWARD = ("cuda_common.cu", "cuda_scan.cu", "cuda_scan_forward.cu")
_BACKWARD = ("cuda_common.cu", "cuda_scan.cu", "cuda_scan_backward.cu")


def scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, dt_softplus, h0, states_every, return_last_state):
    """`lgmamba.scan.selective_scan` through the compiled kernels, one launch for each group of channels.

    Raises:
        ValueError: x is float64.
    """
    G = Bmat.shape[2]
    per_channel = ((x, 2), (dt, 2), (A, 0), (Dskip, 0), (z, 2), (dt_bias, 0), (h0, 1))
    pieces = [[None] * G if v is None else v.chunk(G, dim) for v, dim in per_channel]
    options = (dt_softplus, states_every, return_last_state)
    results = [
        _scan_group(*group, Bmat[:, :, g], Cmat[:, :, g], *options) for g, group in enumerate(zip(*pieces, strict=True))
    ]
    if G == 1 or isinstance(results[0], Tensor):
        return results[0] if G == 1 else torch.cat(results, dim=2)
    channels = (2, *((1,) if return_last_state else ()), *((2,) if states_every is not None else ()))
    return tuple(torch.cat(parts, dim) for parts, dim in zip(zip(*results, strict=True), channels, strict=True))


def _scan_group(x, dt, A, Dskip, z, dt_bias, h0, Bmat, Cmat, dt_softplus, states_every, return_last_state):
    Dskip = A.new_zeros(len(A)) if Dskip is None else Dskip
    if x.dtype not in TYPES:
        raise ValueError(f"backend='cuda' computes in float32, x is {x.dtype}; use backend='reference'")
    x, dt, z = (v if v is None or v.dtype in TYPES else v.float() for v in (x, dt, z))
    projected = torch.promote_types(Bmat.dtype, Cmat.dtype)
    Bmat, Cmat = (v.to(projected if projected in TYPES else torch.float32) for v in (Bmat, Cmat))
    A, Dskip, dt_bias, h0 = (v if v is None else v.float() for v in (A, Dskip, dt_bias, h0))
    tensors = (x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, h0)
    train = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in tensors)
    y, last, states, _ = torch.ops.lgmamba.scan_cuda(*tensors, dt_softplus, states_every or 0, return_last_state, train)
    result = [y]
    if return_last_state:
        result.append(last)
    if states_every is not None:
        result.append(states)
    return result[0] if len(result) == 1 else tuple(result)


class Args(ctypes.Structure):
    """`struct Args` of cuda_scan.cu: same fields in the same order, eight bytes each."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("B", "L", "D", "N", "states_every", "rows_per_block"),
            *("x", "x_b", "x_l", "dt", "dt_b", "dt_l", "z", "z_b", "z_l", "dy", "dy_b", "dy_l"),
            *("Bmat", "B_b", "B_l", "B_n", "Cmat", "C_b", "C_l", "C_n"),
            *("A", "Dskip", "dt_bias", "h0", "dlast", "dstates"),
            *("y", "last", "states", "checkpoints", "dx", "ddt", "dz"),
            *("dh0", "part_bc", "part_A", "part_vectors"),
        )
    )


class Sums(ctypes.Structure):
    """`struct Sums` of cuda_scan_sums.cu."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("part_bc", "part_A", "part_vectors", "dBmat", "dCmat", "dA", "dDskip", "dbias"),
            *("rows", "D", "N", "blocks_d", "groups", "parameter_blocks"),
        )
    )


def _kernel(name, files, mapping: Mapping, tensors: dict[str, Tensor | None], N: int, **flags: bool) -> Kernel:
    """The kernel for these dtypes; `flags` are the constants of cuda_scan.cu that are 0 or 1."""
    x, z = tensors["x"], tensors["z"]
    types = dict(TX=x, TD=tensors["dt"], TZ=x if z is None else z, TBC=tensors["Bmat"])
    sizes = {k: getattr(mapping, k) for k in ("NP", "CT", "WARPS", "T", "MIN_BLOCKS")}
    flags |= dict(N_IS_NP=mapping.NP == N, GATED=z is not None)
    settings = {k: TYPES[v.dtype] for k, v in types.items()} | sizes | dict(K=CHUNK)
    return Kernel(name, files, (*settings.items(), *((k, int(v)) for k, v in flags.items())))


def _rows(v: Tensor | None) -> Tensor | None:
    """v, (B, L, D), with a dense last axis."""
    return v if v is None or v.stride(2) == 1 else v.contiguous()


def _dense(v: Tensor | None) -> Tensor | None:
    """v in float32, contiguous, on a 16-byte boundary."""
    if v is None:
        return None
    if v.dtype is not torch.float32:
        raise ValueError(f"the operators lgmamba::scan_cuda* take parameters and states in float32, got {v.dtype}")
    v = v.contiguous()
    return v if v.data_ptr() % 16 == 0 else v.clone()


def _fields(tensors: dict[str, Tensor | None], **numbers: int) -> Args:
    """Kernel arguments from tensors by field name: pointers, and strides where the kernel wants them."""
    args = Args(**numbers)
    strides = {"x": "x", "dt": "dt", "z": "z", "dy": "dy", "Bmat": "B", "Cmat": "C"}
    for name, v in tensors.items():
        if v is None or v.numel() == 0:
            continue
        setattr(args, name, v.data_ptr())
        for letter, stride in zip("bln" if name in ("Bmat", "Cmat") else "bl", v.stride(), strict=False):
            if name in strides:
                setattr(args, f"{strides[name]}_{letter}", stride)
    return args


def _forward_outputs(x, A, states_every, return_last_state, train) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (B, L, D), N = x.shape, A.shape[1]
    last = (B, D, N) if return_last_state else (0,)
    states = (B, L // states_every, D, N) if states_every else (0,)
    checkpoints = (B, (L - 1) // CHUNK, D, N) if train else (0,)
    return x.new_empty((B, L, D)), *(A.new_empty(shape) for shape in (last, states, checkpoints))


@torch.library.custom_op("lgmamba::scan_cuda", mutates_args=(), device_types="cuda")
def _forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    Bmat: Tensor,
    Cmat: Tensor,
    Dskip: Tensor,
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
    (B, L, D), N, device = x.shape, A.shape[1], x.get_device()
    x, dt, z = _rows(x), _rows(dt), _rows(z)
    A, Dskip, dt_bias, h0 = (_dense(v) for v in (A, Dskip, dt_bias, h0))
    mapping = choose_mapping(False, (x, dt, z), N, device)
    tensors = dict(x=x, dt=dt, z=z, Bmat=Bmat, Cmat=Cmat, A=A, Dskip=Dskip, dt_bias=dt_bias, h0=h0)
    flags = dict(SOFTPLUS=dt_softplus, STATES=states.numel() > 0, CHECKPOINTS=checkpoints.numel() > 0)
    kernel = _kernel("scan_forward", _FORWARD, mapping, tensors, N, **flags)
    tensors |= dict(y=y, last=last, states=states, checkpoints=checkpoints)
    args = _fields(tensors, B=B, L=L, D=D, N=N, states_every=states_every)
    kernel.launch(device, B * mapping.blocks(D), 32 * mapping.WARPS, mapping.forward_bytes(), args)
    return y, last, states, checkpoints


@_forward.register_fake
def _(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, h0, dt_softplus, states_every, return_last_state, train):
    return _forward_outputs(x, A, states_every, return_last_state, train)


def _gradients(x, dt, A, Bmat, z, dt_bias, has_h0: bool) -> list[Tensor]:
    """One tensor per entry of `_INPUTS`, (0,) where the input is absent."""
    (B, L, D), N = x.shape, A.shape[1]
    shapes = (
        *((x, (B, L, D)), (dt, (B, L, D)), (A, (D, N)), (Bmat, (B, L, N)), (Bmat, (B, L, N)), (A, (D,))),
        *((x if z is None else z, (B, L, D) if z is not None else (0,)), (A, (D,) if dt_bias is not None else (0,))),
        (A, (B, D, N) if has_h0 else (0,)),
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
    Dskip: Tensor,
    z: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    checkpoints: Tensor,
    dt_softplus: bool,
    states_every: int,
) -> list[Tensor]:
    """Gradients in the order of `_INPUTS`, (0,) where the input is absent."""
    grads = _gradients(x, dt, A, Bmat, z, dt_bias, h0 is not None)
    dx, ddt, dA, dB, dC, dDskip, dz, dbias, dh0 = grads
    (B, L, D), N, device = x.shape, A.shape[1], x.get_device()
    x, dt, z, dy = (_rows(v) for v in (x, dt, z, dy))
    A, Dskip, dt_bias, h0, dlast, dstates = (_dense(v) for v in (A, Dskip, dt_bias, h0, dlast, dstates))

    mapping = choose_mapping(True, (x, dt, z, dy), N, device)
    blocks_d = mapping.blocks(D)
    rows = samples_per_block(mapping, B, D, device)
    groups = -(-B // rows)
    part_bc = A.new_empty((blocks_d, B * L, 2, N))
    part_A, part_vectors = A.new_empty((groups, D, N)), A.new_empty((groups, 2, D))
    tensors = dict(x=x, dt=dt, z=z, dy=dy, Bmat=Bmat, Cmat=Cmat, A=A, Dskip=Dskip, dt_bias=dt_bias, h0=h0)
    flags = dict(SOFTPLUS=dt_softplus, STATES=dstates is not None, CHECKPOINTS=True)
    kernel = _kernel("scan_backward", _BACKWARD, mapping, tensors, N, **flags)
    tensors |= dict(dlast=dlast, dstates=dstates, checkpoints=checkpoints, dx=dx, ddt=ddt, dz=dz, dh0=dh0)
    tensors |= dict(part_bc=part_bc, part_A=part_A, part_vectors=part_vectors)
    args = _fields(tensors, B=B, L=L, D=D, N=N, states_every=states_every, rows_per_block=rows)
    kernel.launch(device, groups * blocks_d, 32 * mapping.WARPS, mapping.backward_bytes(), args)

    parts = dict(part_bc=part_bc, part_A=part_A, part_vectors=part_vectors)
    _sum_parts(parts | dict(dBmat=dB, dCmat=dC, dA=dA, dDskip=dDskip, dbias=dbias), B * L, blocks_d, groups, device)
    return grads


def _sum_parts(tensors: dict[str, Tensor], rows: int, blocks_d: int, groups: int, device: int) -> None:
    """Add what the blocks of the backward left, `rows` = B * L."""
    D, N = tensors["dA"].shape
    parameter_blocks = -(-D * (N + 2) // 32)
    pointers = {k: v.data_ptr() if v.numel() else 0 for k, v in tensors.items()}
    numbers = dict(rows=rows, D=D, N=N, blocks_d=blocks_d, groups=groups, parameter_blocks=parameter_blocks)
    kernel = Kernel("scan_sums", ("cuda_common.cu", "cuda_scan_sums.cu"), (("TBC", TYPES[tensors["dBmat"].dtype]),))
    blocks = parameter_blocks + min(-(-rows * 2 * N // 256), 1 << 20)
    kernel.launch(device, blocks, 256, 0, Sums(**pointers, **numbers))


@_backward.register_fake
def _(dy, dlast, dstates, x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, h0, checkpoints, dt_softplus, states_every):
    return _gradients(x, dt, A, Bmat, z, dt_bias, h0 is not None)


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


def _no_double_backward(ctx, *_):
    raise RuntimeError("selective_scan with backend='cuda' has no second derivative; use backend='reference' for it")


_backward.register_autograd(_no_double_backward)

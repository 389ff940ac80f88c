"""Launches of the scan's kernels: their arguments, settings and sizes. The operators around them: `cuda_backend`."""

import ctypes

import torch
from torch import Tensor

from lgmamba.scan.cuda_loader import TYPES, Kernel
from lgmamba.scan.cuda_mapping import CHUNK, Mapping, Plan

_COMMON = ("cuda_common.cu", "cuda_scan.cu")


class Args(ctypes.Structure):
    """`struct Args` of cuda_scan.cu: same fields in the same order, eight bytes each."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("B", "L", "D", "N", "G", "states_every", "pieces", "piece"),
            *("width", "blocks_d", "blocks_per_group", "run_samples", "items_per_block", "run_parts"),
            *("x", "x_b", "x_l", "dt", "dt_b", "dt_l", "z", "z_b", "z_l", "dy", "dy_b", "dy_l"),
            *("Bmat", "B_b", "B_l", "B_g", "B_n", "Cmat", "C_b", "C_l", "C_g", "C_n"),
            *("A", "Dskip", "dt_bias", "h0", "dlast", "dstates", "ends", "dt_sums"),
            *("y", "last", "states", "checkpoints", "dx", "ddt", "dz", "dBmat", "dCmat"),
            *("dh0", "part_bc", "part_A", "part_vectors"),
        )
    )


class Sums(ctypes.Structure):
    """`struct Sums` of cuda_scan_sums.cu."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("part_bc", "part_A", "part_vectors", "dBmat", "dCmat", "dA", "dDskip", "dbias"),
            *("rows", "D", "N", "blocks_per_group", "run_parts", "run_blocks", "parameter_blocks"),
        )
    )


class Join(ctypes.Structure):
    """`struct Join` of cuda_scan_join.cu."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("ends", "dt_sums", "A", "B", "slots", "D", "N", "columns", "reverse", "run_samples")
    )


_STRIDES = {"x": ("x", "bl"), "dt": ("dt", "bl"), "z": ("z", "bl"), "dy": ("dy", "bl")}
_STRIDES |= {"Bmat": ("B", "blgn"), "Cmat": ("C", "blgn")}
"""Tensor -> the prefix of its strides in `Args` and the letters of the axes whose stride is there."""

Tensors = dict[str, Tensor | None]
"""Tensors by field name; None or an empty one is absent, a null pointer."""


def scan_kernel(name: str, mapping: Mapping, tensors: Tensors, gated: bool, **flags: bool) -> Kernel:
    """The kernel for these dtypes; `flags` are the constants of cuda_scan.cu that are 0 or 1."""
    x, z = tensors["x"], tensors["z"] if gated else None
    types = dict(TX=x, TD=tensors["dt"], TZ=x if z is None else z, TBC=tensors["Bmat"])
    sizes = {k: getattr(mapping, k) for k in ("NP", "NT", "CT", "WARPS", "T", "K", "MIN_BLOCKS")}
    flags |= dict(N_IS_NP=mapping.NP == tensors["A"].shape[-1], GATED=z is not None)
    settings = {k: TYPES[v.dtype] for k, v in types.items()} | sizes | {k: int(v) for k, v in flags.items()}
    return Kernel(f"scan_{name}", (*_COMMON, f"cuda_scan_{name}.cu"), tuple(settings.items()))


def _arguments(tensors: Tensors, mapping: Mapping, piece: int, **numbers: int) -> Args:
    """Kernel arguments from tensors by field name: pointers, and strides where the kernel wants them."""
    (B, L, D), (G, N) = tensors["x"].shape, tensors["Bmat"].shape[2:]
    args = Args(B=B, L=L, D=D, N=N, G=G, piece=piece, pieces=-(-L // piece), **numbers)
    args.width, args.blocks_per_group = D // G, mapping.blocks(D // G)
    args.blocks_d = G * args.blocks_per_group
    args.run_samples = B // runs_of(tensors["A"])
    for name, v in tensors.items():
        if v is None or v.numel() == 0:
            continue
        setattr(args, name, v.data_ptr())
        prefix, axes = _STRIDES.get(name, ("", ""))
        for axis, stride in zip(axes, v.stride(), strict=False):
            setattr(args, f"{prefix}_{axis}", stride)
    return args


def carry(tensors: Tensors, plan: Plan, reverse: bool, softplus: bool, states_every: int) -> Tensors:
    """The first walk and the join: what every piece but the outermost starts from, in `ends`; absent with one piece."""
    (B, L, D), A, device = tensors["x"].shape, tensors["A"], tensors["x"].get_device()
    N = A.shape[-1]
    slots = -(-L // plan.piece) - 1
    if slots == 0:
        return {"ends": None}
    ends, dt_sums = A.new_empty((B, slots, D, N)), A.new_empty((B, slots, D))
    has_states = reverse and tensors["dstates"] is not None
    flags = dict(SOFTPLUS=softplus, REVERSE=reverse, STATES=has_states)
    kernel = scan_kernel("ends", plan.ends, tensors, gated=reverse, **flags)
    tensors = tensors | dict(ends=ends, dt_sums=dt_sums)
    args = _arguments(tensors, plan.ends, plan.piece, states_every=states_every)
    kernel.launch(device, (B * args.blocks_d, slots), 32 * plan.ends.WARPS, plan.ends.ends_bytes(), args)

    columns = -(-D * N // 32)
    pointers = {k: v.data_ptr() for k, v in dict(ends=ends, dt_sums=dt_sums, A=A).items()}
    numbers = dict(B=B, slots=slots, D=D, N=N, columns=columns, reverse=reverse, run_samples=args.run_samples)
    kernel = Kernel("scan_join", ("cuda_common.cu", "cuda_scan_join.cu"), ())
    kernel.launch(device, (B * columns, 1), 512, 0, Join(**pointers, **numbers), overlap=True)
    return {"ends": ends}


def forward(inputs: Tensors, outputs: Tensors, plan: Plan, softplus: bool, states_every: int) -> None:
    """Fill `outputs` (y, and last, states, checkpoints where present) by the kernels."""
    tensors = inputs | carry(inputs, plan, False, softplus, states_every)
    flags = dict(
        SOFTPLUS=softplus, STATES=outputs["states"].numel() > 0, CHECKPOINTS=outputs["checkpoints"].numel() > 0
    )
    kernel = scan_kernel("forward", plan.walk, tensors, gated=True, **flags)
    args = _arguments(tensors | outputs, plan.walk, plan.piece, states_every=states_every)
    device, threads, shared = inputs["x"].get_device(), 32 * plan.walk.WARPS, plan.walk.forward_bytes()
    grid = (args.B * args.blocks_d, args.pieces)
    overlap = args.pieces > 1 and plan.fills(grid[0] * grid[1], device)
    kernel.launch(device, grid, threads, shared, args, overlap=overlap)


def backward(inputs: Tensors, grads: Tensors, plan: Plan, softplus: bool, states_every: int) -> None:
    """Fill `grads` (dx, ddt, dz, dA, dBmat, dCmat, dDskip, dbias, dh0 where present) by the kernels."""
    (B, L, D), (G, N), A = inputs["x"].shape, inputs["Bmat"].shape[2:], inputs["A"]
    device, mapping = inputs["x"].get_device(), plan.walk
    tensors = inputs | carry(inputs, plan, True, softplus, states_every)
    direct = mapping.blocks(D // G) == 1
    flags = dict(SOFTPLUS=softplus, STATES=inputs["dstates"] is not None, DIRECT=direct)
    kernel = scan_kernel("backward", mapping, tensors, gated=True, **flags)

    args = _arguments(tensors | {k: v for k, v in grads.items() if k in dict(Args._fields_)}, mapping, plan.piece)
    args.states_every = states_every
    run_items = args.run_samples * args.pieces
    args.items_per_block = min(run_items, plan.items_per_block(B * args.pieces, args.blocks_d, device))
    args.run_parts = -(-run_items // args.items_per_block)
    parts = runs_of(A) * args.run_parts
    part_bc = A.new_empty((0,) if direct else (args.blocks_per_group, B * L * G, 2, N))
    part_A, part_vectors = A.new_empty((parts, D, N)), A.new_empty((parts, 2, D))
    for name, v in (("part_bc", part_bc), ("part_A", part_A), ("part_vectors", part_vectors)):
        setattr(args, name, v.data_ptr())
    blocks, threads, shared = parts * args.blocks_d, 32 * mapping.WARPS, mapping.backward_bytes()
    kernel.launch(device, (blocks, 1), threads, shared, args, overlap=args.pieces > 1 and plan.fills(blocks, device))

    rows = 0 if direct else B * L * G
    summed = dict(part_bc=part_bc, part_A=part_A, part_vectors=part_vectors)
    summed |= {k: grads[k] for k in ("dBmat", "dCmat", "dA", "dDskip", "dbias")}
    run_blocks = -(-D * (N + 2) // 32)
    numbers = dict(rows=rows, D=D, N=N, blocks_per_group=args.blocks_per_group, run_parts=args.run_parts)
    pointers = {k: v.data_ptr() if v.numel() else 0 for k, v in summed.items()}
    sums = Sums(**pointers, **numbers, run_blocks=run_blocks, parameter_blocks=runs_of(A) * run_blocks)
    kernel = Kernel("scan_sums", ("cuda_common.cu", "cuda_scan_sums.cu"), (("TBC", TYPES[grads["dBmat"].dtype]),))
    blocks = sums.parameter_blocks + min(-(-rows * 2 * N // 256), 1 << 20)
    kernel.launch(device, (blocks, 1), 256, 0, sums, overlap=True)


def checkpoint_shape(x: Tensor, A: Tensor) -> tuple[int, ...]:
    """Of the states kept for the backward: those before every chunk but the first."""
    B, L, D = x.shape
    return (B, (L - 1) // CHUNK, D, A.shape[-1])


def runs_of(A: Tensor) -> int:
    """R of A (R, D, N), each with a part of the samples of its own; 1 of A (D, N)."""
    return A.shape[0] if A.ndim == 3 else 1


def rows(v: Tensor | None) -> Tensor | None:
    """v, (B, L, D), with a dense last axis."""
    return v if v is None or v.stride(2) == 1 else v.contiguous()


def dense(v: Tensor | None) -> Tensor | None:
    """v in float32, contiguous, on a 16-byte boundary."""
    if v is None:
        return None
    if v.dtype is not torch.float32:
        raise ValueError(f"the operators lgmamba::scan_cuda* take parameters and states in float32, got {v.dtype}")
    v = v.contiguous()
    return v if v.data_ptr() % 16 == 0 else v.clone()

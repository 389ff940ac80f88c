"""RMS norm over the last axis in one CUDA kernel, forward and backward.

`lgmamba::rms_norm_cuda` computes in float32. torch's own kernel gives a whole block of threads to each row: narrow rows, such
as those of a stack of width 16, leave most of it idle, and under `torch.vmap` it falls apart into many small ones. Here rows
share a warp. Deterministic: the weight's gradient is summed in an order that depends on shapes and the GPU model only. The
rows may be R runs of neighbouring ones, each with its own weight (R, D): that is how `torch.vmap` is served, as for the scan.
"""

import ctypes

import torch
from torch import Tensor

from lgmamba.scan import vmap
from lgmamba.scan.cuda_loader import Kernel, multiprocessors, unavailable

__all__ = ["rms_norm", "runs", "unavailable"]

MAX_WIDTH = 4096
"""Of a row: what a warp's lanes hold in registers. Wider ones are for torch's kernel, which is good at them."""
_THREADS, _BLOCKS_PER_MULTIPROCESSOR = 256, 8
_FILES = ("cuda_common.cu", "cuda_norm.cu")


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis, on an NVIDIA GPU.

    Args:
        x: (..., D) float32.
        weight: (D,) float32.
        eps: added to the mean square.
    Returns:
        (..., D) float32. Gradients flow to x and weight; there is no second derivative.
    Reference: Zhang & Sennrich 2019 (arXiv:1910.07467), equation 4.
    """
    return torch.ops.lgmamba.rms_norm_cuda(x, weight, eps)


def runs(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernel can run here and covers this input."""
    return (
        x.is_cuda
        and x.dtype == weight.dtype == torch.float32
        and x.shape[-1] <= MAX_WIDTH
        and x.numel() > 0
        and _reason("cuda") is None
    )


def _reason(device: str) -> str | None:
    return unavailable(device)


_reason._dynamo_marked_constant = True  # torch.compile runs it instead of tracing into its cache; as in `scan.api`


class Args(ctypes.Structure):
    """`struct Args` of cuda_norm.cu: same fields in the same order, eight bytes each."""

    _fields_ = (
        ("run_rows", ctypes.c_int64),
        ("run_parts", ctypes.c_int64),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_int64) for name in ("x", "weight", "dy", "y", "dx", "part")),
    )


def _lanes(D: int, V: int) -> int:
    """That hold a row: a power of two, at most a warp."""
    lanes = 1
    while lanes < 32 and lanes * V < D:
        lanes *= 2
    return lanes


def _blocks(x: Tensor, weight: Tensor, most: int) -> tuple[int, int, int]:
    """Runs, rows of a run, and blocks of a run: all runs together have at most about `most`."""
    R, D = weight.numel() // x.shape[-1], x.shape[-1]
    rows = x.numel() // D // R
    V = 4 if D % 4 == 0 else 1
    return R, rows, min(-(-rows // (_THREADS // _lanes(D, V))), max(1, most // R))


def _launch(name: str, R: int, rows: int, parts: int, eps: float, tensors: dict[str, Tensor]) -> None:
    x = tensors["x"]
    D = x.shape[-1]
    V = 4 if D % 4 == 0 and all(v.data_ptr() % 16 == 0 for v in tensors.values()) else 1
    args = Args(run_rows=rows, run_parts=parts, eps=eps, **{field: v.data_ptr() for field, v in tensors.items()})
    settings = dict(D=D, V=V, LANES=_lanes(D, V), THREADS=_THREADS)
    Kernel(name, _FILES, tuple(settings.items())).launch(x.get_device(), (R * parts, 1), _THREADS, 0, args)


@torch.library.custom_op("lgmamba::rms_norm_cuda", mutates_args=(), device_types="cuda")
def _forward(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """(..., D), of R runs where weight is (R, D)."""
    x, weight, y = x.contiguous(), weight.contiguous(), x.new_empty(x.shape)
    R, rows, parts = _blocks(x, weight, 1 << 20)
    _launch("norm_forward", R, rows, parts, eps, dict(x=x, weight=weight, y=y))
    return y


@_forward.register_fake
def _(x, weight, eps):
    return x.new_empty(x.shape)


@torch.library.custom_op("lgmamba::rms_norm_cuda_backward", mutates_args=(), device_types="cuda")
def _backward(dy: Tensor, x: Tensor, weight: Tensor, eps: float) -> list[Tensor]:
    """Gradients of x and weight."""
    x, dy, weight, dx = x.contiguous(), dy.contiguous(), weight.contiguous(), x.new_empty(x.shape)
    R, rows, parts = _blocks(x, weight, _BLOCKS_PER_MULTIPROCESSOR * multiprocessors(x.get_device()))
    part = weight.new_empty((R, parts, x.shape[-1]))
    _launch("norm_backward", R, rows, parts, eps, dict(x=x, weight=weight, dy=dy, dx=dx, part=part))
    return [dx, part.sum(1).view(weight.shape)]


@_backward.register_fake
def _(dy, x, weight, eps):
    return [x.new_empty(x.shape), weight.new_empty(weight.shape)]


def _save(ctx, inputs, output) -> None:
    x, weight, ctx.eps = inputs
    ctx.save_for_backward(x, weight)


def _differentiate(ctx, dy):
    dx, dweight = torch.ops.lgmamba.rms_norm_cuda_backward(dy, *ctx.saved_tensors, ctx.eps)
    return dx if ctx.needs_input_grad[0] else None, dweight if ctx.needs_input_grad[1] else None, None


_forward.register_autograd(_differentiate, setup_context=_save)


@_forward.register_vmap
def _(info, in_dims, x, weight, eps):
    x, weight = vmap.leading((x, weight), in_dims, info.batch_size)
    return torch.ops.lgmamba.rms_norm_cuda(x, weight, eps), 0


def _no_double_backward(ctx, *_):
    raise RuntimeError("the CUDA RMS norm has no second derivative; use torch.nn.functional.rms_norm for it")


_backward.register_autograd(_no_double_backward)

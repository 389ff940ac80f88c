"""Mamba's short causal convolution with its SiLU in one CUDA kernel, forward and backward. Layout and symbols: `conv.py`.

`lgmamba::conv_silu_cuda` computes in float32, whatever the dtype of x. Deterministic: the gradients of weight and bias
are summed in an order that depends on shapes and the GPU model only. The samples may be R runs of B / R neighbouring ones,
each with its own weight (R, D, W) and bias (R, D): that is how `torch.vmap` is served, as for the scan.
"""

import ctypes

import torch
from torch import Tensor

from lgmamba.scan import vmap
from lgmamba.scan.cuda_loader import TYPES, Kernel, multiprocessors, unavailable

__all__ = ["causal_conv1d_silu", "runs", "unavailable"]

MAX_TAPS = 8

_THREADS, _COLUMNS, _ROWS = 256, 32, 8
_BLOCKS_PER_MULTIPROCESSOR = 4
_FILES = ("cuda_common.cu", "cuda_conv.cu")


def causal_conv1d_silu(x: Tensor, weight: Tensor, bias: Tensor, carry: Tensor | None = None) -> Tensor:
    """Depthwise causal convolution over the steps, then SiLU, on an NVIDIA GPU.

    Args:
        x: (B, L, D) float32, bfloat16 or float16; any strides, free of copies where the last axis is dense.
        weight: (D, W), W in 2..8, tap W - 1 on the current step.
        bias: (D,).
        carry: (B, W - 1, D) the inputs before x, or None for zeros.
    Returns:
        y: (B, L, D) in x's dtype. Gradients flow to all four arguments; there is no second derivative.
    Raises:
        ValueError: a shape or dtype that does not fit, naming the argument.
        RuntimeError: kernels cannot be compiled or run here, with what to install.
    Reference: Gu & Dao 2023 (arXiv:2312.00752), section 3.4; mirrors causal_conv1d's `causal_conv1d_fn` with
        activation="silu", in (B, L, D) layout.
    """
    reason = _reason(x.device.type)
    if reason is not None:
        raise RuntimeError(f"the CUDA convolution cannot run: {reason}")
    if x.ndim != 3 or 0 in x.shape or x.dtype not in TYPES:
        raise ValueError(f"x must be (B, L, D), not empty, in {set(TYPES)}; got {tuple(x.shape)}, {x.dtype}")
    B, _, D = x.shape
    if weight.ndim != 2 or weight.shape[0] != D or not 2 <= weight.shape[1] <= MAX_TAPS:
        raise ValueError(f"weight must be ({D}, 2..{MAX_TAPS}) to fit x; got {tuple(weight.shape)}")
    W = weight.shape[1]
    for name, tensor, shape in (("bias", bias, (D,)), ("carry", carry, (B, W - 1, D))):
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape} to fit x and weight; got {tuple(tensor.shape)}")
    carry = None if carry is None else carry.to(x.dtype)
    return torch.ops.lgmamba.conv_silu_cuda(x, weight.float(), bias.float(), carry)


def runs(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernel can run here and covers this input."""
    return (
        x.is_cuda
        and x.dtype in TYPES
        and 2 <= weight.shape[1] <= MAX_TAPS
        and x.numel() > 0
        and _reason("cuda") is None
    )


def _reason(device: str) -> str | None:
    return unavailable(device)


_reason._dynamo_marked_constant = True  # torch.compile runs it instead of tracing into its cache; as in `scan.api`


class Args(ctypes.Structure):
    """`struct Args` of cuda_conv.cu: same fields in the same order, eight bytes each."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *(
                "B",
                "L",
                "D",
                "run_samples",
                "run_parts",
                "x",
                "x_b",
                "x_l",
                "dy",
                "dy_b",
                "dy_l",
                "carry",
                "weight",
                "bias",
            ),
            *("y", "dx", "dcarry", "part", "dweight", "dbias"),
        )
    )


def _channels_per_thread(rows) -> int:
    """4, 2 or 1 neighbouring channels that can be read at once in all of these tensors; None among them is absent."""
    for CT in (4, 2):
        if all(v is None or _aligned(v, CT) for v in rows):
            return CT
    return 1


def _aligned(v: Tensor, CT: int) -> bool:
    strides = (s for s, size in zip(v.stride()[:2], v.shape, strict=False) if size > 1)
    whole = v.data_ptr() % (CT * v.element_size()) == 0 and v.shape[2] % CT == 0
    return whole and all(s % CT == 0 for s in strides)


def _segment(L: int) -> int:
    """Steps that a thread computes at once; more means fewer steps computed twice by the backward."""
    return 16 if L <= 16 else 32


def _dense(v: Tensor | None) -> Tensor | None:
    """v, (B, L, D), with a dense last axis."""
    return v if v is None or v.stride(2) == 1 else v.contiguous()


def _launch(name: str, tensors: dict[str, Tensor | None], parts: int, blocks: int, CT: int) -> None:
    x, W = tensors["x"], tensors["weight"].shape[-1]
    R = _runs(tensors["bias"])
    args = Args(B=x.shape[0], L=x.shape[1], D=x.shape[2], run_samples=x.shape[0] // R, run_parts=parts)
    for field, v in tensors.items():
        if v is not None and v.numel():
            setattr(args, field, v.data_ptr())
    for field in ("x", "dy"):
        if tensors.get(field) is not None:
            setattr(args, f"{field}_b", tensors[field].stride(0))
            setattr(args, f"{field}_l", tensors[field].stride(1))
    numbers = dict(CT=CT, W=W, SEGMENT=_segment(x.shape[1]), CARRY=int(tensors["carry"] is not None))
    kernel = Kernel(name, _FILES, (("TX", TYPES[x.dtype]), *numbers.items()))
    kernel.launch(x.get_device(), (R * blocks, 1), _THREADS, 0, args)


def _runs(bias: Tensor) -> int:
    return bias.shape[0] if bias.ndim == 2 else 1


def _grid(x: Tensor, R: int, CT: int, most: int) -> tuple[int, int]:
    """Of one run: parts (blocks along samples and segments; of all runs at most `most` if that fills the GPU), and blocks."""
    B, L, D = x.shape
    blocks_d = -(-D // (_COLUMNS * CT))
    parts = min(-(-B // R * -(-L // _segment(L)) // _ROWS), max(1, most // R // blocks_d))
    return parts, parts * blocks_d


@torch.library.custom_op("lgmamba::conv_silu_cuda", mutates_args=(), device_types="cuda")
def _forward(x: Tensor, weight: Tensor, bias: Tensor, carry: Tensor | None) -> Tensor:
    """Output (B, L, D)."""
    y = x.new_empty(x.shape)
    x, carry = _dense(x), None if carry is None else carry.contiguous()
    CT = _channels_per_thread((x, carry))
    parts, blocks = _grid(x, _runs(bias), CT, 1 << 30)
    tensors = dict(x=x, carry=carry, weight=weight.contiguous(), bias=bias.contiguous(), y=y)
    _launch("conv_forward", tensors, parts, blocks, CT)
    return y


@_forward.register_fake
def _(x, weight, bias, carry):
    return x.new_empty(x.shape)


@torch.library.custom_op("lgmamba::conv_silu_cuda_backward", mutates_args=(), device_types="cuda")
def _backward(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, carry: Tensor | None) -> list[Tensor]:
    """Gradients of x, weight, bias and carry, (0,) where that is absent."""
    dx, dweight, dbias, dcarry = _gradients(x, weight, carry)
    x, dy, carry = _dense(x), _dense(dy), None if carry is None else carry.contiguous()
    R, D, W = _runs(bias), x.shape[2], weight.shape[-1]
    CT = _channels_per_thread((x, dy, carry))
    parts, blocks = _grid(x, R, CT, _BLOCKS_PER_MULTIPROCESSOR * multiprocessors(x.get_device()))
    part = weight.new_empty((R * parts, D, W + 1))
    tensors = dict(x=x, dy=dy, carry=carry, weight=weight.contiguous(), bias=bias.contiguous())
    tensors |= dict(dx=dx, dcarry=dcarry, part=part, dweight=dweight, dbias=dbias)
    _launch("conv_backward", tensors, parts, blocks, CT)
    _launch("conv_sums", tensors, parts, -(-D * (W + 1) // _COLUMNS), CT)
    return [dx, dweight, dbias, dcarry]


def _gradients(x, weight, carry) -> list[Tensor]:
    absent = (0,) if carry is None else carry.shape
    return [
        x.new_empty(x.shape),
        weight.new_empty(weight.shape),
        weight.new_empty(weight.shape[:-1]),
        x.new_empty(absent),
    ]


@_backward.register_fake
def _(dy, x, weight, bias, carry):
    return _gradients(x, weight, carry)


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, dy):
    grads = torch.ops.lgmamba.conv_silu_cuda_backward(dy, *ctx.saved_tensors)
    return tuple(g if wanted else None for g, wanted in zip(grads, ctx.needs_input_grad, strict=True))


_forward.register_autograd(_differentiate, setup_context=_save)


@_forward.register_vmap
def _(info, in_dims, *args):
    x, weight, bias, carry = vmap.leading(args, in_dims, info.batch_size)
    y = torch.ops.lgmamba.conv_silu_cuda(vmap.fold(x), weight, bias, vmap.fold(carry))
    return y.unflatten(0, (info.batch_size, -1)), 0


def _no_double_backward(ctx, *_):
    raise RuntimeError(
        "the CUDA convolution has no second derivative; use the plain form in lgmamba.mixers.conv for it"
    )


_backward.register_autograd(_no_double_backward)

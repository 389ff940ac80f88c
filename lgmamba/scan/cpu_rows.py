"""The RMS norm on a CPU, row by row, in the compiled kernel (`_cpu_rows.h`). Glossary: `lgmamba.scan`; rows: all axes but the last.

A small model on a CPU spends as long in calling torch's operators as in their arithmetic. These compute in one pass what takes
torch several, without a node of autograd for each. Deterministic as the scan is: the sums over rows have an order of their own.
"""

import ctypes
from collections.abc import Iterable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lgmamba.scan.cpu_build import load_kernel
from lgmamba.scan.cpu_interface import RowArgs
from lgmamba.scan.transforms import is_batched, is_transformed


def runs(tensors: Iterable[Tensor | None]) -> bool:
    """Whether the kernel's functions may be called on these tensors: all float32 on a CPU, eager, and nobody looks through them.

    Under torch.compile, autocast or a transform of torch the plain operators do the same, to rounding.
    """
    given = [v for v in tensors if v is not None]
    return (
        not torch.compiler.is_compiling()
        and all(
            type(v) in (Tensor, nn.Parameter) and v.dtype is torch.float32 and v.device.type == "cpu" for v in given
        )
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._len_torch_dispatch_stack()
        and not any(is_batched(v) for v in given)
        and not is_transformed(given)
        and _is_there()
    )


@cache
def _is_there() -> bool:
    # Here, since it imports the backends; asked of this one alone, since to answer for numba is to import it and to compile.
    from lgmamba.scan.api import unavailable

    return unavailable("cpu", "cpu") is None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis; where `runs`.

    Args:
        x: (..., D).
        weight: (D,).
        eps: added to the mean square.
    Returns:
        (..., D). Gradients flow to x and weight; there is no second derivative.
    Reference: Zhang & Sennrich 2019 (arXiv:1910.07467), equation 4.
    """
    return cast(Tensor, _Norm.apply(x, weight, eps))


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows, weight = _rows(x), weight.contiguous()
        y = x.new_empty(x.shape)
        _launch("norm_forward", eps, x=rows, weight=weight, y=y)
        ctx.save_for_backward(rows, weight)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        dx, dweight = dy.new_empty(dy.shape), torch.empty_like(weight)
        _launch("norm_backward", ctx.eps, x=x, weight=weight, dy=_rows(dy), dx=dx.view(x.shape), dweight=dweight)
        return dx, dweight, None


def _rows(x: Tensor) -> Tensor:
    """(T, D), each row contiguous."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def _launch(name: str, eps: float = 0.0, **tensors: Tensor) -> None:
    """Call a function of the kernel on (T, D) tensors by the names of `RowArgs`."""
    x = tensors["x"]
    strides = {f"{which}_stride": tensors[which].stride(0) for which in ("x", "dy") if which in tensors}
    addresses = {which: v.data_ptr() for which, v in tensors.items()}
    args = RowArgs(rows=x.shape[0], D=x.shape[1], threads=torch.get_num_threads(), eps=eps, **strides, **addresses)
    getattr(load_kernel(), f"lgmamba_{name}")(ctypes.byref(args))

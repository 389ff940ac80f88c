"""What the rules for `torch.vmap` of the compiled operators share. R: the size of the axis that vmap adds, R runs.

A run is what vmap maps over, such as one of several models trained side by side. Operators that know runs read them as
more samples of one batch: (R, B, ...) -> (R * B, ...), where nothing moves.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def leading(tensors: Sequence[Tensor | None], in_dims: Sequence[int | None], R: int) -> list[Tensor | None]:
    """Every tensor with R as its first axis; those that vmap does not map over are repeated without a copy."""

    def moved(v: Tensor | None, dim: int | None) -> Tensor | None:
        if v is None:
            return None
        return v.expand(R, *v.shape) if dim is None else v.movedim(dim, 0)

    return [moved(v, dim) for v, dim in zip(tensors, in_dims, strict=False)]


def fold(v: Tensor | None) -> Tensor | None:
    """(R, B, ...) -> (R * B, ...)."""
    return None if v is None else v.flatten(0, 1)


def unfold(outputs: Sequence[Tensor], R: int) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    """(R * B, ...) -> (R, B, ...), and where R is then; empty outputs, which nobody asked for, stay as they are."""
    there = [v.numel() > 0 for v in outputs]
    unfolded = tuple(v.unflatten(0, (R, -1)) if is_there else v for v, is_there in zip(outputs, there, strict=True))
    return unfolded, tuple(0 if is_there else None for is_there in there)


def requires_grad(tensors: Sequence[Tensor | None]) -> bool:
    """Whether a call with these arguments will be differentiated; under vmap `Tensor.requires_grad` itself says False."""
    given = [v for v in tensors if v is not None]
    if not torch.compiler.is_compiling():
        given = [_unwrapped(v) for v in given]
    return torch.is_grad_enabled() and any(v.requires_grad for v in given)


def _unwrapped(v: Tensor) -> Tensor:
    while torch._C._functorch.is_functorch_wrapped_tensor(v):  # no public way to ask; as old as torch.func
        v = torch._C._functorch.get_unwrapped(v)
    return v


def one_by_one(operator: Callable[..., Sequence[Tensor]]) -> Callable:
    """A rule that makes one call for each run, for operators that do not know runs."""

    def rule(info, in_dims, *args):
        def run(i: int) -> list[object]:
            return [v if dim is None else v.select(dim, i) for v, dim in zip(args, in_dims, strict=True)]

        outputs = [operator(*run(i)) for i in range(info.batch_size)]
        return tuple(torch.stack(each) for each in zip(*outputs, strict=True)), (0,) * len(outputs[0])

    return rule

"""Which calls a compiled kernel cannot serve because a transform of torch looks through them. Glossary: `lgmamba.scan`.

A compiled kernel knows values and, through its operator's backward pass, first derivatives. Forward-mode differentiation
and the differentiating transforms of `torch.func` see through such an operator: unless somebody looks, its tangent is
silently zero. `torch.func.vmap` alone is served, see `lgmamba.scan.vmap`.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad

_functorch = torch._C._functorch  # no public way to ask; these names are as old as torch.func


def is_transformed(tensors: Iterable[Tensor | None]) -> bool:
    """Whether forward-mode differentiation or a `torch.func` transform that differentiates sees one of these tensors."""
    if forward_ad._current_level < 0 and _functorch.peek_interpreter_stack() is None:
        return False  # neither is going on, so that no tensor need be asked
    return any(_tracked(v) for v in tensors if isinstance(v, Tensor))


def is_batched(v: Tensor) -> bool:
    """Whether `torch.vmap` sees this tensor."""
    return _functorch.is_batchedtensor(v)


def _tracked(v: Tensor) -> bool:
    if forward_ad.unpack_dual(v).tangent is not None:
        return True
    while _functorch.is_functorch_wrapped_tensor(v):
        if _functorch.is_gradtrackingtensor(v):  # of func.grad, vjp, jacrev and, with a tangent or without, of func.jvp
            return True
        v = _functorch.get_unwrapped(v)
    return False


def refusal(name: str) -> str:
    """What to tell whoever asked for this backend by name."""
    return (
        f"backend={name!r} is compiled and has no forward-mode derivative and no torch.func transform that differentiates "
        "(jvp, jacfwd, linearize, grad, vjp, jacrev, hessian); use backend='reference', which has all of them, or "
        "backend='auto', which takes it for such calls"
    )

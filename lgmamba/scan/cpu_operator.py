"""Registers the CPU scans as operators of torch. Glossary: `lgmamba.scan`."""

from collections.abc import Callable

import torch
from torch._C import _after_autograd_keyset, _any_requires_grad, _AutoDispatchBelowAutograd

from lgmamba.scan import vmap
from lgmamba.scan.transforms import is_transformed, refusal


def register_operator(
    name: str, backend: str, kernel: Callable, fake: Callable, differentiate: Callable, save: Callable | None
) -> None:
    """Make `torch.ops.<name>` from an annotated function on CPU tensors.

    As `torch.library.custom_op` does, but that wraps the kernel so that the first call imports all of torch.compile: some
    four seconds in every process, needed or not. And unlike there, a transform that would see a zero derivative is an
    error, also where torch.compile calls the operator; `torch.vmap` calls the operator once for each run.

    Args:
        name: "namespace::operator".
        backend: name of the backend, for errors.
        kernel: takes tensors and returns a tuple of them (torch loops over batched gradients for no other kind);
            changes none of its arguments and returns none of them.
        fake: same arguments, returns empty tensors of the right shapes.
        differentiate: `backward(ctx, *output gradients)`.
        save: `setup_context(ctx, inputs, output)`.
    """
    torch.library.define(name, torch.library.infer_schema(kernel, mutates_args=()))
    torch.library.impl(name, "cpu", kernel)
    torch.library.register_fake(name, fake)
    namespace, short = name.split("::")
    operator = getattr(getattr(torch.ops, namespace), short).default

    def below(keyset, args):
        with _AutoDispatchBelowAutograd():
            return operator.redispatch(keyset & _after_autograd_keyset, *args)

    # What torch.library.register_autograd makes, but for its search for defaults of arguments in the schema, which these
    # operators have none of: that took longer than a small scan.
    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *args_and_keyset):
            *args, keyset = args_and_keyset
            output = below(keyset, args)
            if save is not None:
                save(ctx, args, output)
            return output

        @staticmethod
        def backward(ctx, *gradients):
            return *differentiate(ctx, *gradients), None  # for the keyset

    def autograd(keyset, *args):
        if is_transformed(args):
            raise RuntimeError(refusal(backend))
        if torch.is_grad_enabled() and _any_requires_grad(*args):
            return Differentiable.apply(*args, keyset)
        return below(keyset, args)

    _library.impl(short, autograd, "Autograd", with_keyset=True)
    torch.library.register_vmap(name, vmap.one_by_one(operator))


_library = torch.library.Library("lgmamba", "FRAGMENT")

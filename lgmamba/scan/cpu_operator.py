"""Registers the CPU scans as operators of torch. Glossary: `lgmamba.scan`."""

from collections.abc import Callable

import torch
from torch._library.autograd import Info, make_autograd_impl

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
    with_gradients = make_autograd_impl(
        operator, Info(differentiate, save)
    )  # as torch.library.register_autograd has it

    def autograd(keyset, *args):
        if is_transformed(args):
            raise RuntimeError(refusal(backend))
        return with_gradients(keyset, *args)

    _library.impl(short, autograd, "Autograd", with_keyset=True)
    torch.library.register_vmap(name, vmap.one_by_one(operator))


_library = torch.library.Library("lgmamba", "FRAGMENT")

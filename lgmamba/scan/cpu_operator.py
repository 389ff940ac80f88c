"""Registers the CPU scans as operators of torch. Glossary: `lgmamba.scan`."""

from collections.abc import Callable

import torch

from lgmamba.scan import vmap


def register_operator(
    name: str, kernel: Callable, fake: Callable, differentiate: Callable, save: Callable | None
) -> None:
    """Make `torch.ops.<name>` from an annotated function on CPU tensors.

    As `torch.library.custom_op` does, but that wraps the kernel so that the first call imports all of torch.compile: some
    four seconds in every process, needed or not.

    Args:
        name: "namespace::operator".
        kernel: takes and returns tensors; changes none of its arguments and returns none of them.
        fake: same arguments, returns empty tensors of the right shapes.
        differentiate: `backward(ctx, *output gradients)`.
        save: `setup_context(ctx, inputs, output)`.
    """
    torch.library.define(name, torch.library.infer_schema(kernel, mutates_args=()))
    torch.library.impl(name, "cpu", kernel)
    torch.library.register_fake(name, fake)
    torch.library.register_autograd(name, differentiate, setup_context=save)
    namespace, short = name.split("::")
    torch.library.register_vmap(name, vmap.one_by_one(getattr(getattr(torch.ops, namespace), short).default))

"""Passes through a sequence of 13 steps: in pieces, and what hooks see of them."""

import torch

from lgmamba.mixers.mamba.mixer import MambaCall
from tests.model.models import as_read

CUTS = [(13,), (1, 12), (12, 1), (2, 1, 1, 9), (3, 4, 6), (1, 2, 3, 1, 6), (1,) * 13]


def in_pieces(model, patches, cells, told, sizes, hook=None):
    """Outputs and the end state of a pass in pieces of these sizes."""
    state, outputs, start = None, [], 0
    for size in sizes:
        tokens = model.tokens(as_read(patches, cells), start, start + size)
        out, state = model.encode(tokens, state, told, hook)
        outputs.append(out)
        start += size
    return torch.cat(outputs, dim=1), state


def assert_same_state(a, b, tolerance):
    assert a.t == b.t
    for mine, other in zip(a.layers, b.layers, strict=True):
        torch.testing.assert_close(mine.memory, other.memory, **tolerance)
        torch.testing.assert_close(mine.carry[0], other.carry[0], **tolerance)


def seen(model, patches, cells, state=None, told=None) -> list[MambaCall]:
    """The calls that a pass makes."""
    calls = []
    model.encode(model.embed(patches, cells), state, told, lambda call: calls.append(call) or call)
    return calls

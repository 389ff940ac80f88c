"""A function recorded as a CUDA graph and replayed."""

import gc

import pytest
import torch

from lgmamba.train.graph import WARM_UP, Replayed

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")]

OBJECTS = 5_000
"""So many new ones that Python's collector begins."""


class Cycle:
    """Holds an object, and itself: freed by Python's collector alone."""

    def __init__(self, held: object = None):
        self.held, self.itself = held, self


def test_an_earlier_graph_that_is_garbage_does_not_spoil_the_recording_of_another():
    assert gc.isenabled()
    assert gc.get_threshold()[0] < OBJECTS
    x = torch.ones(4, device="cuda")
    earlier = [Replayed(lambda v: (2 * v,), before_recording=lambda: None)]
    for _ in range(WARM_UP + 1):
        earlier[0](x)

    def many_objects(v):
        return (v * len([Cycle() for _ in range(OBJECTS)]),)

    replayed = Replayed(many_objects, before_recording=lambda: Cycle(earlier.pop()))
    for _ in range(WARM_UP + 2):
        result = replayed(x)[0].clone()
    assert torch.equal(result, OBJECTS * x)
    assert gc.isenabled()

"""Fixtures of the scan's tests; in all of them uninitialised memory is NaN, so that an output that a kernel forgets is seen."""

import pytest
import torch

from lgmamba.scan import api


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    def poison(allocate):
        def poisoned(*args, **kwargs):
            made = allocate(*args, **kwargs)
            if made.is_floating_point():
                with torch.no_grad():
                    made.fill_(float("nan"))
            return made

        return poisoned

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))


@pytest.fixture
def fresh_choice():
    """Which backends run here is found out anew in this test, and again after it."""
    api._unavailable.cache_clear()
    api._auto.cache_clear()
    yield
    api._unavailable.cache_clear()
    api._auto.cache_clear()

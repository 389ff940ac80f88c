"""Uninitialised memory is filled with NaN, so that an output that a kernel forgets to write is seen."""

import pytest
import torch


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

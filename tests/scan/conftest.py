"""Fixtures of the scan's tests; in all of them uninitialised memory is NaN, so that an output that a kernel forgets is seen."""

import pytest
import torch

from lgmamba.scan import api


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Memory that torch hands out without a value is NaN, by torch's own switch: a function of torch that is replaced while torch
    makes its tables of them would be missing there in every later test."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(9).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def fresh_choice():
    """Which backends run here is found out anew in this test, and again after it."""
    api.unavailable.cache_clear()
    api._auto.cache_clear()
    yield
    api.unavailable.cache_clear()
    api._auto.cache_clear()

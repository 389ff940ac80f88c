"""What holds for all tests: each begins with one thread, those of long files come first, and thorough ones wait to be asked for."""

import os

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """As `train`, `reconstruct` and their like set it for as long as the process lives, most to one and some to two.

    On tiny tensors two threads, which wait for each other at every step, took eight times as long as one on a busy machine of two cores.
    """
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run whole programs come first, then those with another slow test: a long file that begins last is waited for."""
    workflow, slow = ({item.path for item in items if item.get_closest_marker(mark)} for mark in ("workflow", "slow"))
    items.sort(key=lambda item: (item.path not in workflow, item.path not in slow))
    if not os.environ.get("LGMAMBA_THOROUGH"):
        for item in items:
            if item.get_closest_marker("thorough"):
                item.add_marker(pytest.mark.skip(reason="runs with `make test-thorough`"))

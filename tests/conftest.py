"""One thread for every test, whatever an earlier one in the same process has set."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """As `train`, `reconstruct` and their like set it for as long as the process lives, most to one and some to two.

    On tiny tensors two threads, which wait for each other at every step, take thirty times as long on a busy machine.
    """
    torch.set_num_threads(1)

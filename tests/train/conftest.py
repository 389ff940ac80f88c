from pathlib import Path

import pytest
import torch

from tests.train.tiny import build_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """300 digits as a data artefact."""
    return build_digits(tmp_path_factory.mktemp("digits") / "data")


@pytest.fixture(autouse=True)
def one_thread():
    """As `train` does: threads that wait for each other on a busy machine cost more than they gain on tiny models."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

from pathlib import Path

import pytest

from tests.train.tiny import shared_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """300 digits as a data artefact."""
    return shared_digits(tmp_path_factory)

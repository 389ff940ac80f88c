from pathlib import Path

import pytest

from tests.train.tiny import build_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """300 digits as a data artefact."""
    return build_digits(tmp_path_factory.mktemp("digits") / "data")

from types import SimpleNamespace

import pytest

from tests.cli.programs import Caller
from tests.train.tiny import shared_digits, tiny_run


@pytest.fixture
def lgmamba(monkeypatch, capsys) -> Caller:
    return Caller(monkeypatch, capsys)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    return shared_digits(tmp_path_factory)


@pytest.fixture
def paths(tmp_path, digits) -> SimpleNamespace:
    """A run that can be trained: run.json, and folders for the rest."""
    (tmp_path / "run.json").write_text(tiny_run().model_dump_json())
    return SimpleNamespace(
        run=tmp_path / "run.json", data=digits, out=tmp_path / "train", work=tmp_path / "work", root=tmp_path
    )

import shutil
from pathlib import Path

import pytest

from tests.workflow.checkouts import Checkout, copy_repository, write_small_study


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    """A fresh copy, in which nothing has run."""
    return copy_repository(tmp_path / "repository")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Checkout:
    """A copy in which the smoke study, reduced to its first comparison, has run to the end with the canonical command.

    Tests may edit it, if they put it back.
    """
    copy = copy_repository(tmp_path_factory.mktemp("finished") / "repository")
    write_small_study(copy.path)
    copy.commit("small study")
    (copy.path / "first_run.txt").write_text(copy.snakemake("--use-conda"))
    return copy


@pytest.fixture
def spoilable(finished, tmp_path) -> Checkout:
    """A copy of `finished`, time stamps and Snakemake's records included, that a test may leave as it likes."""
    shutil.copytree(finished.path, tmp_path / "repository", symlinks=True)
    return Checkout(tmp_path / "repository")


@pytest.fixture
def edited():
    """edited(path, text): a file with other content until the test ends."""
    before: dict[Path, str] = {}

    def edit(path: Path, text: str) -> None:
        before.setdefault(path, path.read_text())
        path.write_text(text)

    yield edit
    for path, text in before.items():
        path.write_text(text)

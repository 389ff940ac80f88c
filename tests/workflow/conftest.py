import shutil
from pathlib import Path

import pytest

from tests.sharing import made_once
from tests.workflow.checkouts import Checkout, copy_repository, write_small_study


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Checkout:
    """A copy in which nothing has run, nor does: its tests plan, and leave it as it was."""
    return copy_repository(tmp_path_factory.mktemp("checkout") / "repository")


def copy_of(checkout: Checkout, folder: Path) -> Checkout:
    """Time stamps and Snakemake's records included."""
    shutil.copytree(checkout.path, folder / "repository", symlinks=True)
    return Checkout(folder / "repository")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Checkout:
    """A copy in which the smoke study, reduced to its first comparison, has run to the end with the canonical command.

    Tests may edit it, if they put it back.
    """

    def make(folder: Path) -> None:
        original = copy_repository(folder / "repository")
        write_small_study(original.path)
        original.commit("small study")
        (original.path / "first_run.txt").write_text(original.run("snakemake", "--cores", "4", "--use-conda"))

    original = Checkout(made_once(tmp_path_factory, "finished_study", make) / "repository")
    return copy_of(original, tmp_path_factory.mktemp("finished"))


@pytest.fixture
def spoilable(finished, tmp_path) -> Checkout:
    """A copy of `finished` that a test may leave as it likes."""
    return copy_of(finished, tmp_path)


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

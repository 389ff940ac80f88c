"""What holds for all tests: each begins with one thread and the same random state, those of long files come first, and thorough ones wait
to be asked for."""

import gc
import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TOGETHER = ("browser", "hosts")
"""Folders that one process runs, as it runs a file: it starts one browser, and loads transformers once."""
LONG = (
    "browser",
    "hosts",
    "remedies/test_contract.py",
    "probe/test_remedy_stage.py",
    "train/test_stacked.py",
    "train/test_processes.py",
    "mixers/test_training.py",
    "probe/test_classes.py",
    "probe/test_evaluate_real_remedies.py",
    "remedies/test_build.py",
    "report/test_minimal.py",
    "scan/test_transforms.py",
    "tasks/test_contract.py",
)
"""Such folders, and files of many tests that are not slow each, which take ten seconds or more together, the longest first."""


def unit(path: str | Path) -> str:
    """What of the tests one process runs, relative to this folder: a file, or a folder of those above."""
    inside = Path(path).relative_to(TESTS) if Path(path).is_absolute() else Path(*Path(path).parts[1:])
    return inside.parts[0] if inside.parts[0] in TOGETHER else inside.as_posix()


@pytest.fixture(autouse=True)
def as_the_first():
    """Every test begins as it would if it were the first, with the same random state and one thread.

    `train`, `reconstruct` and their like set the threads for as long as the process lives, most to one and some to two. On tiny tensors
    two, which wait for each other at every step, took eight times as long as one on a busy machine of two cores.
    """
    import torch  # here, since the process that hands out tests to others has no use for it

    torch.set_num_threads(1)
    torch.default_generator.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def documents_read_once():
    from tests.documents import compiled_once, read_once  # here, as torch above

    with read_once(), compiled_once():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run whole programs come first, then those with another slow test or many: a long file that begins last is waited for."""
    workflow, slow = ({item.path for item in items if item.get_closest_marker(mark)} for mark in ("workflow", "slow"))
    long = {name: place for place, name in enumerate(LONG)}
    if gone := [name for name in LONG if not (TESTS / name).exists()]:
        raise pytest.UsageError(f"tests/conftest.py: LONG names files that are not there: {', '.join(gone)}")
    items.sort(
        key=lambda item: (item.path not in workflow, item.path not in slow, long.get(unit(item.path), len(long)))
    )
    if not os.environ.get("LGMAMBA_THOROUGH"):
        for item in items:
            if item.get_closest_marker("thorough"):
                item.add_marker(pytest.mark.skip(reason="runs with `make test-thorough`"))


def pytest_collection() -> None:
    """Packages and tests are loaded without the collector, which would come by a thousand times and find nothing."""
    gc.disable()


def pytest_collection_finish() -> None:
    """They stay to the end, and what they left with them, so that it need never look at their million objects."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """That of `--dist loadfile`, with the folders that stay together."""
    from xdist.scheduler import LoadFileScheduling  # here, since the plugin may be off

    if config.getvalue("dist") != "loadfile":
        return None

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(super()._split_scope(nodeid))

    return Scheduling(config, log)

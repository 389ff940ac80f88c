"""One training by two processes is the training by one, at the same batch."""

import json
import multiprocessing
import os
import runpy
import shlex
import socket
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig
from lgmamba.files import to_json
from lgmamba.tasks.batch import Batch
from lgmamba.track import NullTracker
from lgmamba.train.checkpoint import RESUME
from lgmamba.train.loop import train
from lgmamba.train.processes import Processes, joined
from tests.train.tiny import CPU, FakeTracker, Stopped, reproducible_rows, tiny_run, train_at, weights
from tests.waiting import HANGS
from tests.workflow import served
from tests.workflow.checkouts import ROOT, environment

CLOSE = {"rtol": 1e-3, "atol": 1e-5}
"""Of weights after 20 steps: sums are split by process, and AdamW divides by the square root of small ones."""


def together(home: Path, run: RunConfig, data: Path, stop_at: int | None = None) -> list[int]:
    """Train with two processes, copies of this one that has torch loaded; returns their exit statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=one, args=(rank, port, home, run, data, stop_at)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(HANGS)
    return [process.exitcode for process in processes]


def one(rank: int, port: int, home: Path, run: RunConfig, data: Path, stop_at: int | None) -> None:
    """As torchrun starts them."""
    given = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in given.items()}
    tracker = FakeTracker(stop_at) if rank == 0 else NullTracker()
    try:
        with joined(lambda: None) as processes:
            done = train(run, data, home / "train", home / "work", CPU, tracker, processes)
    except Stopped:
        os._exit(9)  # as a kill would: without a word to the other
    assert bool(done) == (rank == 0)


@pytest.fixture(scope="module")
def by_two(digits, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("two")
    assert together(home, tiny_run(), digits) == [0, 0]
    return home


def test_two_processes_train_what_one_trains(digits, by_two, tmp_path):
    train_at(tmp_path, tiny_run(), digits)
    found = load_file(by_two / "train/model.safetensors")
    for name, expected in load_file(tmp_path / "train/model.safetensors").items():
        torch.testing.assert_close(found[name], expected, **CLOSE)
    for ours, theirs in zip(reproducible_rows(by_two), reproducible_rows(tmp_path), strict=True):
        assert ours[:-1] == theirs[:-1]
        assert ours[-1] == pytest.approx(theirs[-1], rel=1e-4)
    assert json.loads((by_two / "train/train.json").read_text())["processes"] == 2
    assert not (by_two / "work" / RESUME).exists()


def test_an_interrupted_training_of_two_ends_with_the_same_bits(digits, by_two, tmp_path):
    first, second = together(tmp_path, tiny_run(), digits, stop_at=12)
    assert first == 9
    assert second != 0  # it cannot go on alone, and does not wait for ever
    assert (tmp_path / "work" / RESUME).is_file()
    assert together(tmp_path, tiny_run(), digits) == [0, 0]
    assert weights(tmp_path) == weights(by_two)
    assert reproducible_rows(tmp_path) == reproducible_rows(by_two)


def test_what_one_began_two_finish(digits, by_two, tmp_path):
    with pytest.raises(Stopped):
        train_at(tmp_path, tiny_run(), digits, FakeTracker(stop_at=12))
    assert together(tmp_path, tiny_run(), digits) == [0, 0]
    found, expected = (load_file(home / "train/model.safetensors") for home in (tmp_path, by_two))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **CLOSE)


def torchrun(words: list[str], variables: dict[str, str], folder: Path) -> None:
    """What `torchrun WORDS` does in that folder, in a copy of this process, which has torch loaded."""
    sys.stdout = sys.stderr = open(folder / "said.txt", "w", buffering=1)
    for number in (1, 2):
        os.dup2(sys.stdout.fileno(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ |= variables
    sys.argv = ["torchrun", *words]
    runpy.run_module("torch.distributed.run", run_name="__main__")


def test_the_command_as_torchrun_calls_it(digits, by_two, tmp_path):
    """Its two processes are copies of one that has torch loaded, too, where copies are served."""
    (tmp_path / "run.json").write_text(to_json(tiny_run().model_dump(mode="json")))
    (tmp_path / "python").write_text(f'#!/bin/sh\nshift\nexec {shlex.join(served.python())} "$@"\n')  # without its -u
    (tmp_path / "python").chmod(0o755)
    words = ["--run", tmp_path / "run.json", "--data", digits, "--out", tmp_path / "train", "--work", tmp_path / "work"]
    # -- since options of torchrun begin with --run
    words = ["--standalone", "--nproc-per-node", "2", "-m", "--", "lgmamba", "train", *words, "--device", "cpu"]
    variables = {"PYTHON_EXEC": str(tmp_path / "python"), "LGMAMBA_PRELOADED": served.folder("models")}
    variables |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    given = (list(map(str, words)), environment() | variables, tmp_path)
    called = multiprocessing.get_context("fork").Process(target=torchrun, args=given)
    called.start()
    called.join(HANGS)
    said = (tmp_path / "said.txt").read_text()
    assert called.exitcode == 0, said
    assert said.count("20 steps in") == 1
    assert weights(tmp_path) == weights(by_two)


@pytest.mark.parametrize(
    ("changes", "count", "words"),
    [
        ({"batch_size": 4}, 3, "train.batch_size: found 4, expected a multiple of the 3 processes"),
        (
            {"state_passing": {"kind": "same_image", "max_factor": 2, "share": 0.5}},
            2,
            "train.state_passing: found same_image",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(digits, tmp_path, changes, count, words):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/kept").touch()
    with pytest.raises(ConfigError, match=f"^run 'tiny': {words}"):
        train(
            tiny_run(train=changes),
            digits,
            tmp_path / "train",
            tmp_path / "work",
            CPU,
            NullTracker(),
            Processes(0, count),
        )
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["kept"]


def test_shares_are_the_batch():
    batch = Batch(
        lengths=torch.arange(6),
        others=torch.zeros(6, dtype=torch.int64),
        steps=torch.arange(12).reshape(6, 2),
        weights=torch.ones(6, 2),
    )
    shares = [Processes(rank, 3).share(batch).tensors() for rank in range(3)]
    for name, whole in batch.tensors().items():
        assert torch.equal(torch.cat([share[name] for share in shares]), whole)

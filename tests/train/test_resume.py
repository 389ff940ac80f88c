"""A training that is interrupted and called again ends as if it had not been."""

import json
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lgmamba import cli, keys
from lgmamba.train import checkpoint
from lgmamba.train.checkpoint import RESUME
from tests.train.tiny import (
    ADAPTIVE,
    FakeTracker,
    Stopped,
    build_digits,
    history,
    reproducible_rows,
    tiny_run,
    train_at,
    weights,
)
from tests.waiting import HANGS, until


def interrupt(home: Path, run, data: Path, at: int) -> FakeTracker:
    """Train until values of step `at` are told; the last checkpoint is that of the row before."""
    tracker = FakeTracker(stop_at=at)
    with pytest.raises(Stopped):
        train_at(home, run, data, tracker)
    return tracker


def resumed_step(home: Path) -> int:
    """Where a training would go on."""
    with safe_open(home / "work" / RESUME, framework="pt") as file:
        return json.loads(file.metadata()["progress"])["step"]


@pytest.fixture(scope="module")
def uninterrupted(digits, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("uninterrupted")
    train_at(home, tiny_run(), digits)
    return home


@pytest.mark.parametrize("at", [8, 12, 20])
def test_an_interrupted_training_ends_the_same(digits, tmp_path, uninterrupted, at):
    told = interrupt(tmp_path, tiny_run(), digits, at).values
    assert resumed_step(tmp_path) == at - 4
    tracker = FakeTracker()
    about = train_at(tmp_path, tiny_run(), digits, tracker)
    assert weights(tmp_path) == weights(uninterrupted)
    assert reproducible_rows(tmp_path) == reproducible_rows(uninterrupted)
    assert history(tmp_path)["step"].is_sorted()
    assert {step for step, _, _ in tracker.values} == set(range(at, 21, 4))  # not again what was told and kept
    assert min(told)[0] == 4
    assert about["wall_s"] > 0
    assert not (tmp_path / "work" / RESUME).exists()


def test_time_trained_is_summed_over_attempts(digits, tmp_path):
    interrupt(tmp_path, tiny_run(), digits, 12)
    with safe_open(tmp_path / "work" / RESUME, framework="pt") as file:
        tensors, known = load_file(tmp_path / "work" / RESUME), file.metadata()
    known["progress"] = known["progress"].replace('"elapsed_s": ', '"elapsed_s": 100')  # 0.2 -> 1000.2
    known.pop("digest")
    save_file(tensors, tmp_path / "work" / RESUME, known | {"digest": checkpoint._digest(tensors, known)})
    interrupt(tmp_path, tiny_run(), digits, 20)
    assert train_at(tmp_path, tiny_run(), digits)["wall_s"] > 100


def test_no_checkpoint_is_written_before_its_time(digits, tmp_path):
    interrupt(tmp_path, tiny_run(train={"checkpoint_every_s": 3600}), digits, 20)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("other", ["configuration", "code", "data"])
def test_a_checkpoint_of_another_training_is_left_alone(digits, tmp_path, monkeypatch, caplog, other):
    interrupt(tmp_path / "a", tiny_run(), digits, 12)
    run, data = tiny_run(), digits
    if other == "configuration":
        run = tiny_run(train={"lr": 0.004})
    elif other == "code":
        monkeypatch.setattr(keys, "_code", lambda stage: "other code")
    else:
        data = build_digits(tmp_path / "data", splits={"calib": 0.2})
    with caplog.at_level(logging.INFO):
        train_at(tmp_path / "a", run, data)
    assert "belongs to another configuration, code or set of images: training from the beginning" in caplog.text
    train_at(tmp_path / "fresh", run, data)
    assert weights(tmp_path / "a") == weights(tmp_path / "fresh")
    assert reproducible_rows(tmp_path / "a") == reproducible_rows(tmp_path / "fresh")


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [half, lambda _: b"", lambda _: os.urandom(4096)], ids=["half", "empty", "noise"])
def test_a_damaged_checkpoint_is_reported_and_training_starts_over(digits, tmp_path, caplog, uninterrupted, damage):
    interrupt(tmp_path, tiny_run(), digits, 12)
    path = tmp_path / "work" / RESUME
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        train_at(tmp_path, tiny_run(), digits)
    assert f"{path} cannot be read" in caplog.text
    assert weights(tmp_path) == weights(uninterrupted)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("at", [-1, -2000], ids=["last byte", "inside"])
def test_a_single_wrong_bit_never_reaches_the_weights(digits, tmp_path, caplog, uninterrupted, at):
    interrupt(tmp_path, tiny_run(), digits, 12)
    path = tmp_path / "work" / RESUME
    content = path.read_bytes()
    path.write_bytes(flipped(content, len(content) + at))
    with caplog.at_level(logging.WARNING):
        train_at(tmp_path, tiny_run(), digits)
    assert f"{path} is damaged (its digest is another): training from the beginning" in caplog.text
    assert weights(tmp_path) == weights(uninterrupted)


def test_tensors_that_are_no_checkpoint_do_not_stop_a_training(digits, tmp_path, caplog, uninterrupted):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / RESUME).write_bytes((digits / next(digits.glob("*.safetensors")).name).read_bytes())
    with caplog.at_level(logging.INFO):
        train_at(tmp_path, tiny_run(), digits)
    assert "belongs to another" in caplog.text
    assert weights(tmp_path) == weights(uninterrupted)


def test_half_written_files_of_killed_attempts_do_no_harm_and_go_at_the_end(digits, tmp_path, uninterrupted):
    for folder, name in (("work", RESUME), ("train", "model.safetensors"), ("train", "train.json")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f".{name}.4711.part").write_bytes(b"half")
    train_at(tmp_path, tiny_run(), digits)
    assert weights(tmp_path) == weights(uninterrupted)
    assert not list(tmp_path.rglob("*.part"))


def command(words: list[str], errors: Path) -> None:
    """The command line, in a process of its own."""
    with errors.open("w") as sink:
        sys.argv, sys.stdout, sys.stderr = ["lgmamba", *words], sink, sink
        cli.main()


class Process:
    """A process with the real command, a copy of this one that has torch loaded, which can be frozen, looked at, and killed."""

    def __init__(self, home: Path, run, data: Path):
        home.mkdir(parents=True, exist_ok=True)
        (home / "run.json").write_text(run.model_dump_json())
        options = ["--run", home / "run.json", "--data", data, "--out", home / "train", "--work", home / "work"]
        self.home, self.errors = home, home / "errors.txt"
        words = ["train", *map(str, options), "--device", "cpu"]
        self.process = multiprocessing.get_context("fork").Process(target=command, args=(words, self.errors))
        self.process.start()

    def kill_when(self, step: int, writing: bool) -> None:
        """SIGKILL once there is a checkpoint of `step`, in the middle of writing the next one, or anywhere."""
        self._wait(lambda: (self.home / "work" / RESUME).exists() and resumed_step(self.home) >= step, every_s=0.005)
        if writing:  # freeze it again and again, until that is where it stands
            self._wait(self._frozen_while_writing, every_s=0.0002)
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL

    def _wait(self, moment: Callable[[], bool], every_s: float) -> None:
        def reached() -> bool:
            assert self.process.is_alive(), f"the training ended too early: {self.errors.read_text()}"
            return moment()

        until(reached, "a checkpoint", every_s)

    def _frozen_while_writing(self) -> bool:
        os.kill(self.process.pid, signal.SIGSTOP)
        process = psutil.Process(self.process.pid)
        until(lambda: process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE), "its stop", 0.0002)
        if any((self.home / "work").glob(".*.part")):
            return True
        os.kill(self.process.pid, signal.SIGCONT)
        return False

    def finish(self) -> None:
        self.process.join(HANGS)
        assert self.process.exitcode == 0, self.errors.read_text()


@pytest.mark.slow
def test_the_real_process_killed_twice_ends_with_the_same_bytes(digits, tmp_path):
    changes = {"steps": 200, "log_every": 4, "validate_every": 40, "checkpoint_every_s": 0}
    run = tiny_run(model={"adaptive": ADAPTIVE}, train=changes)
    home = tmp_path / "killed"

    Process(home, run, digits).kill_when(4, writing=True)
    assert list((home / "work").glob(".*.part"))
    first = resumed_step(home)
    Process(home, run, digits).kill_when(first + 40, writing=False)
    assert first + 40 <= resumed_step(home) < 200
    Process(home, run, digits).finish()

    train_at(tmp_path / "whole", run, digits)
    assert weights(home) == weights(tmp_path / "whole")
    assert reproducible_rows(home) == reproducible_rows(tmp_path / "whole")
    assert not list(home.rglob("*.part"))

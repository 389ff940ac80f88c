"""`lgmamba train-stack`: several trainings, one command."""

import json
import shutil

import pytest

from lgmamba import track
from lgmamba.data.artefact import read_manifest
from lgmamba.keys import train_key
from lgmamba.records import reason_to_make
from lgmamba.train.stacks import stacks_of
from tests.train.test_stacked import runs_of_one_shape
from tests.train.tiny import CPU, FILES, reproducible_rows, tiny_run, train_at, weights


def write_runs(home, runs) -> list:
    folders = [home / f"{run.run}-{run.seed}" for run in runs]
    for folder, run in zip(folders, runs, strict=True):
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(run.model_dump_json())
    return folders


@pytest.mark.parametrize("n", [1, 2, 3])
def test_on_a_cpu_every_run_has_the_bits_that_it_has_alone(digits, tmp_path, lgmamba, n):
    runs = runs_of_one_shape()
    folders = write_runs(tmp_path, runs)[-n:]
    assert stacks_of(runs, lambda run: run, digits, CPU) == [[run] for run in runs]
    ended = lgmamba("train-stack", *folders, "--data", digits, "--device", "cpu")
    assert ended.code == 0, ended.err
    assert [line.partition(":")[0] for line in ended.out.splitlines()] == [str(folder / "train") for folder in folders]
    alone = tmp_path / "alone"
    train_at(alone, runs[-1], digits)
    assert weights(folders[-1]) == weights(alone)
    assert reproducible_rows(folders[-1]) == reproducible_rows(alone)
    assert "side_by_side" not in json.loads((folders[-1] / "train" / "train.json").read_text())
    assert not list((folders[-1] / "work").iterdir())


def test_one_that_fails_is_told_of_when_the_others_are_done(digits, tmp_path, lgmamba, monkeypatch):
    told = []

    class Recorder(track.NullTracker):
        def __init__(self, store, run, *args):
            self.run = run.run

        def finish(self, train_dir):
            told.append((self.run, "finished"))

        def fail(self, reason):
            told.append((self.run, reason.partition(":")[0]))

    monkeypatch.setattr(track, "open_tracker", Recorder)
    bad = tiny_run(run="bad", train={"lr": 1e30, "warmup_steps": 0})
    folders = write_runs(tmp_path, [bad, tiny_run(run="good")])
    ended = lgmamba("train-stack", *folders, "--data", digits, "--device", "cpu")
    assert ended.code == 1
    assert "error: run 'bad', seed 0: the " in ended.err
    assert told == [("bad", "TrainingError"), ("good", "finished")]
    assert not (folders[0] / "train" / "train.json").exists()
    assert {path.name for path in (folders[1] / "train").iterdir()} == set(FILES)
    whole = weights(folders[1])
    shutil.rmtree(folders[1] / "train")  # as a workflow does with the results of a call that failed
    monkeypatch.setattr("lgmamba.train.loop.advance", None)  # nobody calls it
    ended = lgmamba("train-stack", folders[1], "--data", digits, "--device", "cpu")
    assert ended.code == 0, ended.err
    assert weights(folders[1]) == whole
    assert not list((folders[1] / "work").iterdir())


def test_a_folder_without_a_run_is_named_before_anything_is_trained(digits, tmp_path, lgmamba):
    folders = write_runs(tmp_path, [tiny_run()])
    ended = lgmamba("train-stack", *folders, tmp_path / "gone", "--data", digits, "--device", "cpu")
    assert ended.code == 1
    assert f"error: {tmp_path / 'gone' / 'run.json'}: no such file" in ended.err
    assert not (folders[0] / "train").exists()


def test_each_run_has_a_record_and_those_that_are_current_are_left_out(digits, tmp_path, lgmamba):
    runs = runs_of_one_shape()
    folders = write_runs(tmp_path, runs)
    first = folders[1]
    words = ["--run", first / "run.json", "--data", digits, "--out", first / "train", "--work", first / "work"]
    assert lgmamba("train", *words, "--device", "cpu").code == 0
    before = (first / "train" / "train.json").read_bytes()
    twice = first.parent / ".." / first.parent.name / first.name
    for n_current in (1, len(folders)):
        ended = lgmamba("train-stack", *folders, twice, "--data", digits, "--device", "cpu")
        assert ended.code == 0, ended.err
        assert ended.out.count("is current") == n_current
    assert (first / "train" / "train.json").read_bytes() == before
    for folder, run in zip(folders, runs, strict=True):
        assert reason_to_make(train_key(run, read_manifest(digits).sha256), folder / "train") is None


def test_a_folder_with_another_runs_result_is_refused_before_anything_is_trained(digits, tmp_path, lgmamba):
    folders = write_runs(tmp_path, runs_of_one_shape())
    assert lgmamba("train-stack", folders[0], "--data", digits, "--device", "cpu").code == 0
    shutil.copytree(folders[0] / "train", folders[-1] / "train")
    ended = lgmamba("train-stack", *folders[1:], "--data", digits, "--device", "cpu")
    assert ended.code == 1
    assert f"error: {folders[-1] / 'train'}: found a result of train for study" in ended.err
    assert not (folders[1] / "train").exists()

"""Every mixer trains: from images to a checkpoint, from passed states, stopped and resumed; and side by side where it can."""

import math

import pytest
import torch

from lgmamba.config.base import ConfigError
from lgmamba.data.dataset import load_dataset
from lgmamba.model.runner import run_sequence
from lgmamba.tasks.registry import build_task
from lgmamba.train.checkpoint import load_model
from lgmamba.train.shapes import by_shape, check_one_shape
from tests.mixers.contract import ROWS
from tests.train.tiny import CPU, FakeTracker, Stopped, build_digits, history, tiny_run, train_at, weights

KINDS = {row.mixer["kind"]: row.mixer for row in ROWS.values()}
OTHERS = pytest.mark.parametrize("mixer", [m for kind, m in KINDS.items() if kind != "mamba"], ids=lambda m: m["kind"])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return build_digits(tmp_path_factory.mktemp("data") / "digits")


def run_with(mixer: dict, **train):
    run = tiny_run(train=train)
    return run.model_copy(update={"model": type(run.model).model_validate(run.model.model_dump() | {"mixer": mixer})})


@OTHERS
@pytest.mark.parametrize("passing", [None, {"kind": "noise", "max_factor": 2, "share": 0.5}], ids=["plain", "passed"])
def test_a_mixer_trains_and_its_checkpoint_reads_images(mixer, passing, data, tmp_path):
    run = run_with(mixer, state_passing=passing)
    about = train_at(tmp_path, run, data)
    assert about["run"] == "tiny"
    losses = history(tmp_path).filter(metric="loss")["value"].to_list()
    assert losses and all(math.isfinite(v) for v in losses)
    model, _ = load_model(tmp_path / "train" / "model.safetensors", CPU)
    dataset = load_dataset(data, CPU)
    task = build_task(run, dataset)
    sequences = task.held_out(dataset.split("test")[:3], "permutation", 0, 20)
    whole = run_sequence(model, sequences, [1, 6, 20], "stream", chunk=20)
    torch.testing.assert_close(
        run_sequence(model, sequences, [1, 6, 20], "stream", chunk=3), whole, rtol=1e-4, atol=1e-5
    )


@OTHERS
def test_a_training_that_was_stopped_ends_with_the_same_bits(mixer, data, tmp_path):
    run = run_with(mixer)
    train_at(tmp_path / "whole", run, data)
    with pytest.raises(Stopped):
        train_at(tmp_path / "stopped", run, data, FakeTracker(stop_at=12))
    train_at(tmp_path / "stopped", run, data)
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


@pytest.mark.parametrize("mixer", [KINDS["gru"], KINDS["mamba"] | {"dropout": 0.1}], ids=["gru", "dropout"])
def test_runs_that_cannot_train_side_by_side_are_kept_apart(mixer):
    runs = [run_with(mixer).model_copy(update={"seed": seed}) for seed in (0, 1)]
    assert by_shape(runs, lambda run: run) == [[runs[0]], [runs[1]]]
    with pytest.raises(ConfigError, match="which is done alone"):
        check_one_shape(runs)

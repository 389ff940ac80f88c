"""A training that starts from the weights of another: which ones, part of its digest, and named errors."""

import pytest
import torch

from lgmamba.config.base import ConfigError
from lgmamba.data.dataset import load_dataset
from lgmamba.track import NullTracker
from lgmamba.train.attempt import Attempt, Training
from lgmamba.train.checkpoint import load_model
from lgmamba.train.loop import train
from tests.config.studies import study
from tests.train.tiny import CPU, shared_digits, tiny_run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return shared_digits(tmp_path_factory)


def trained(runs, data, name, **changes):
    """Train in the folders of a study, <runs>/<name>/seed<k>."""
    run = tiny_run(run=name, **changes)
    home = runs / name / f"seed{run.seed}"
    return train(run, data, home / "train", home / "work", CPU, NullTracker()), home / "train/model.safetensors"


def weights(path):
    return load_model(path)[0].state_dict()


FROZEN = {"lr": 1e-30, "steps": 2, "warmup_steps": 1, "weight_decay": 0.0}


def test_a_training_starts_from_the_weights_of_another_run_or_file(tmp_path, data):
    before, source = trained(tmp_path, data, "before")
    for start in ("before", str(tmp_path / "before/seed{seed}/train/model.safetensors")):
        about, path = trained(tmp_path, data, "after", train=FROZEN | {"init_from": start})
        assert all(torch.equal(v, weights(path)[name]) for name, v in weights(source).items())
        assert about["init_from"] == before["checkpoint_digest"]
    assert "init_from" not in before


def test_other_weights_to_start_from_are_another_training(tmp_path, data):
    """An interrupted attempt goes on only where the weights that it started from are still those."""
    trained(tmp_path, data, "before")
    run = tiny_run(run="after", train={"init_from": "before"})
    home = tmp_path / "after/seed0"
    attempt = Attempt(Training(run, home / "train", home / "work", NullTracker()), load_dataset(data), CPU, 1)
    first = attempt.made_from.inputs["init_from"]
    trained(tmp_path, data, "before", train={"steps": 25})
    again = Attempt(Training(run, home / "train", home / "work", NullTracker()), load_dataset(data), CPU, 1)
    assert again.made_from.inputs["init_from"] != first


def test_weights_that_are_not_there_or_of_another_form_are_named(tmp_path, data):
    with pytest.raises(
        ConfigError, match=r"train.init_from: found 'nobody', expected trained weights in .*nobody/seed0/train"
    ):
        trained(tmp_path, data, "after", train={"init_from": "nobody"})
    trained(tmp_path, data, "before", model={"d_model": 12})
    with pytest.raises(ConfigError, match=r"holds a model of another form; .*found blocks\.0"):
        trained(tmp_path, data, "after", train={"init_from": "before"})


def refused(message, runs):
    alone = {"claims": {"comparisons": []}, "remedies": [], "remedy_evaluation": None, "probes": None}
    with pytest.raises(ConfigError, match=message):
        study(runs=runs, **alone)


def test_a_study_names_runs_that_it_has_and_no_circle():
    def starting(source):
        return {"train": {"init_from": source}}

    refused("runs.a.train.init_from: found 'b', expected: one of the runs", {"a": starting("b")})
    refused(
        "runs.a.train.init_from: found 'b', expected: weights that do not come from",
        {"a": starting("b"), "b": starting("a")},
    )

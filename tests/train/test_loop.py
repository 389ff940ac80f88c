"""One training: the same bits for the same seed, and files that say what was done."""

import json
import stat

import polars as pl
import pytest
import torch

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig
from lgmamba.data.artefact import read_manifest
from lgmamba.data.dataset import load_dataset
from lgmamba.data.errors import DataError
from lgmamba.files import file_digest
from lgmamba.mixers.memory import memory_of
from lgmamba.provenance import code_digest
from lgmamba.records import RECORD
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.track import metric_name
from lgmamba.train import loop
from lgmamba.train.attempt import TrainingError
from lgmamba.train.checkpoint import load_model
from lgmamba.train.history import History
from lgmamba.train.optimizer import learning_rate
from lgmamba.train.step import TrainStep
from lgmamba.train.validation import Validation
from tests.train.tiny import (
    ADAPTIVE,
    CPU,
    FILES,
    FakeTracker,
    build_digits,
    history,
    reproducible_rows,
    tiny_run,
    train_at,
    weights,
)

SCHEMA = {
    "run": pl.String,
    "seed": pl.Int64,
    "step": pl.Int64,
    "metric": pl.String,
    "length": pl.Int64,
    "value": pl.Float64,
}


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A finished training: its folder, what `train` returned, and what the tracker was told."""
    home, tracker = tmp_path_factory.mktemp("trained"), FakeTracker()
    return home, train_at(home, tiny_run(), digits, tracker), tracker


@pytest.mark.parametrize("adaptive", [None, ADAPTIVE], ids=["plain", "adaptive"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(digits, tmp_path, adaptive):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_at(tmp_path / name, tiny_run(seed=seed, model={"adaptive": adaptive}), digits)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert reproducible_rows(tmp_path / "a") == reproducible_rows(tmp_path / "b")
    tensors = [load_model(tmp_path / name / "train" / "model.safetensors")[0].state_dict() for name in "ac"]
    assert not torch.equal(*(t["blocks.0.mixer.in_proj.weight"] for t in tensors))
    assert reproducible_rows(tmp_path / "a") != reproducible_rows(tmp_path / "c")


def test_the_seed_alone_decides_the_first_weights(digits):
    state = torch.get_rng_state()
    first, again, other = (build_model(tiny_run(seed=s), (1, 8, 8)).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(v, again[name]) for name, v in first.items())
    assert not torch.equal(first["embed_patch.weight"], other["embed_patch.weight"])
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone


def test_training_learns(trained):
    loss = history(trained[0]).filter(metric="loss")["value"]
    assert loss[-1] < 0.9 * loss[0]


def test_the_checkpoint_is_the_trained_model_with_its_configuration(trained, digits):
    home, about, _ = trained
    model, run = load_model(home / "train" / "model.safetensors")
    assert run == tiny_run() == RunConfig.model_validate_json((home / "train" / "run.json").read_text())
    assert not model.training
    dataset = load_dataset(digits)
    levels = Validation(build_task(run, dataset), dataset, run.train.validate_images).levels(model)
    assert {str(T): v for T, v in levels.items()} == about["final"]["val_psnr"]


def test_files_are_whole_readable_by_all_and_nothing_else_is_left(trained):
    home = trained[0]
    assert {p.name for p in (home / "train").iterdir()} == set(FILES)
    assert list((home / "work").iterdir()) == []
    for name in FILES:
        assert stat.S_IMODE((home / "train" / name).stat().st_mode) == 0o644


def test_train_json_says_what_was_done(trained, digits):
    home, returned, _ = trained
    about = json.loads((home / "train" / "train.json").read_text())
    assert about == returned
    rows = history(home)
    expected = {
        "run": "tiny",
        "seed": 0,
        "study": "tests",
        "L0": 6,
        "steps": 20,
        "parameters": sum(p.numel() for p in build_model(tiny_run(), (1, 8, 8)).parameters()),
        "device": "cpu",
        "precision": "fp32",
        "images_per_s": rows.filter(metric="images_per_s")["value"].median(),
        "data_digest": read_manifest(digits).sha256,
        "code_digest": code_digest("lgmamba.train.loop"),
        "checkpoint_digest": file_digest(home / "train" / "model.safetensors"),
        "final": {
            "loss": rows.filter(metric="loss", step=20)["value"].item(),
            "val_psnr": {
                str(T): v for T, v in rows.filter(metric="val_psnr", step=20).select("length", "value").iter_rows()
            },
        },
    }
    assert {key: about[key] for key in expected} == expected
    assert about.keys() - expected == {"device_name", "backend", "git", "versions", "wall_s", "peak_rss_mb", "tau"}
    mixers = [block.mixer for block in load_model(home / "train" / "model.safetensors", CPU)[0].blocks]
    assert about["tau"]["end"] == pytest.approx(memory_of(mixers, 8).listed())
    assert about["tau"]["start"] != about["tau"]["end"]
    assert about["backend"] in ("cpu", "cpu_numba", "reference")
    assert about["versions"]["torch"]
    assert about["wall_s"] > 0
    assert about["peak_rss_mb"] > 50


def test_history_is_tidy(trained):
    rows = history(trained[0])
    assert rows.schema == SCHEMA
    assert rows["run"].unique().to_list() == ["tiny"]
    for metric in ("loss", "lr", "grad_norm", "images_per_s", "peak_rss_mb"):
        here = rows.filter(metric=metric)
        assert here["step"].to_list() == [4, 8, 12, 16, 20]
        assert here["length"].null_count() == 5
    val = rows.filter(metric="val_psnr")
    assert val.select("step", "length").rows() == [(step, T) for step in (8, 16, 20) for T in (1, 4, 6)]
    assert rows["value"].is_finite().all()
    rates = [learning_rate(step - 1, tiny_run().train) for step in (4, 8, 12, 16, 20)]
    assert rows.filter(metric="lr")["value"].to_list() == rates


def test_the_loss_of_a_row_is_the_mean_since_the_row_before(trained, digits, tmp_path):
    train_at(tmp_path, tiny_run(train={"log_every": 1}), digits)
    each = history(tmp_path).filter(metric="loss")["value"].to_list()
    grouped = history(trained[0]).filter(metric="loss")["value"].to_list()
    means = [sum(each[i : i + 4]) / 4 for i in range(0, 20, 4)]
    assert grouped == pytest.approx(means, rel=1e-6)  # a float32 mean against a float64 one
    # How often a training is looked at does not change it (the stored configuration differs).
    models = [load_model(home / "train" / "model.safetensors")[0].state_dict() for home in (tmp_path, trained[0])]
    assert all(torch.equal(v, models[1][name]) for name, v in models[0].items())


def test_every_step_is_taken_at_its_own_learning_rate(digits, tmp_path, monkeypatch):
    rates = []

    class Watched(TrainStep):
        def __call__(self, batch):
            rates.append({group["lr"] for group in self.optimizer.param_groups})
            return super().__call__(batch)

    monkeypatch.setattr(loop, "TrainStep", Watched)
    train_at(tmp_path, tiny_run(), digits)
    assert rates == [{learning_rate(step, tiny_run().train)} for step in range(20)]


def test_steps_that_are_no_multiple_of_log_every_end_with_a_row_of_their_own(digits, tmp_path):
    about = train_at(tmp_path, tiny_run(train={"steps": 10, "log_every": 4, "validate_every": 100}), digits)
    rows = history(tmp_path)
    assert rows.filter(metric="loss")["step"].to_list() == [4, 8, 10]
    assert rows.filter(metric="val_psnr")["step"].unique().to_list() == [10]
    assert about["final"]["loss"] == rows.filter(metric="loss")["value"][-1]


def test_a_history_without_lengths_has_the_same_types(tmp_path):
    kept = History(tiny_run(), FakeTracker(), [])
    kept.add(1, {"loss": 0.5, "lr": 0.1})
    kept.write(tmp_path / "history.parquet")
    rows = pl.read_parquet(tmp_path / "history.parquet")
    assert rows.schema == SCHEMA
    assert rows.rows() == [("tiny", 0, 1, "loss", None, 0.5), ("tiny", 0, 1, "lr", None, 0.1)]


def test_the_tracker_is_told_every_value_of_the_history_and_the_end(trained):
    home, _, tracker = trained
    rows = history(home).select("step", "metric", "length", "value").rows()
    assert tracker.values == [(step, metric_name(metric, length), value) for step, metric, length, value in rows]
    assert tracker.finished == [(home / "train", set(FILES))]  # told once, when all files were there


def test_bf16_on_a_cpu_is_trained_and_recorded(digits, tmp_path, trained):
    about = train_at(tmp_path, tiny_run(train={"precision": "bf16"}), digits)
    assert about["precision"] == "bf16"
    losses = [history(home).filter(metric="loss")["value"].to_list() for home in (tmp_path, trained[0])]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)  # bfloat16 keeps three digits; the steps are few


def poisoned(at: int, loss: float, norm: float):
    """A step that goes wrong once, at step `at` from 1."""

    class Poisoned(TrainStep):
        calls = 0

        def __call__(self, batch):
            results = super().__call__(batch)
            Poisoned.calls += 1
            return tuple(torch.tensor(v) for v in (loss, norm)) if Poisoned.calls == at else results

    return Poisoned


@pytest.mark.parametrize("at", [1, 6, 8, 20])
@pytest.mark.parametrize(
    "loss, norm, text",
    [
        (float("nan"), 1.0, "loss at step {} is nan"),
        (float("inf"), 1.0, "loss at step {} is inf"),
        (0.1, float("nan"), "gradient norm at step {} is nan"),
    ],
    ids=["nan-loss", "infinite-loss", "nan-gradient"],
)
def test_a_number_gone_wrong_stops_the_training_and_names_run_seed_and_step(
    digits, tmp_path, monkeypatch, at, loss, norm, text
):
    monkeypatch.setattr(loop, "TrainStep", poisoned(at, loss, norm))
    tracker = FakeTracker()
    with pytest.raises(TrainingError, match=rf"run 'tiny', seed 3: the {text.format(at)}; "):
        train_at(tmp_path, tiny_run(seed=3), digits, tracker)
    assert not (tmp_path / "train").exists()
    assert not tracker.finished
    assert all(step < at for step, _, _ in tracker.values)


def test_a_learning_rate_far_too_high_is_such_an_error(digits, tmp_path):
    with pytest.raises(TrainingError, match=r"run 'tiny', seed 0: the (loss|gradient norm) at step [2-9] is (nan|inf)"):
        train_at(tmp_path, tiny_run(train={"lr": 1e30, "warmup_steps": 0}), digits)


def test_a_training_that_fails_does_not_leave_the_old_ones_record(digits, tmp_path, monkeypatch):
    train_at(tmp_path, tiny_run(), digits)
    monkeypatch.setattr(loop, "TrainStep", poisoned(5, float("nan"), 1.0))
    with pytest.raises(TrainingError):
        train_at(tmp_path, tiny_run(), digits)
    assert not (tmp_path / "train" / RECORD).exists()


def test_images_that_do_not_fit_are_refused_before_training(digits, tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"run 'tiny' does not fit the images: patch_size=3 does not divide the image of 8 x 8",
    ):
        train_at(tmp_path, tiny_run(task={"patch_size": 3}), digits)
    with pytest.raises(DataError, match=r"no data artefact at .*gone"):
        train_at(tmp_path, tiny_run(), tmp_path / "gone")
    empty = build_digits(tmp_path / "data", splits={"val": 0.0})
    with pytest.raises(ConfigError, match=r"no image in split val, expected some .*data\.splits\.val > 0"):
        train_at(tmp_path, tiny_run(), empty)

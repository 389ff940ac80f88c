"""Trainings side by side: each gets what it gets alone, whatever happens to the others, and may be resumed in any company."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig
from lgmamba.data.dataset import load_dataset
from lgmamba.records import RECORD
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.track import NullTracker, Tracker
from lgmamba.train import loop
from lgmamba.train.checkpoint import load_model
from lgmamba.train.loop import Training, TrainingError, train_stack
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.shapes import by_shape, check_one_shape, in_parts
from lgmamba.train.stacked import StackedStep, clip_each
from lgmamba.train.step import TrainStep
from tests.train.tiny import (
    ADAPTIVE,
    CPU,
    FILES,
    FakeTracker,
    Stopped,
    history,
    reproducible_rows,
    tiny_run,
    train_at,
    weights,
)

FORMS = {
    "plain": {},
    "adaptive": {"model": {"adaptive": ADAPTIVE}},
    "film-normalised": {
        "model": {"adaptive": ADAPTIVE | {"kind": "film_readout", "code": "normalised", "beyond": "rescale"}}
    },
    "spatial-moves": {"model": {"position": "relative_move", "decoder": {"kind": "spatial", "hidden": 8}}},
    "random_k": {"task": {"supervision": {"kind": "random_k", "k": 2}}},
    "lamb": {"train": {"optimizer": {"kind": "lamb"}}},
    "class-head": {
        "model": {"latent": 5, "class_head": {"classes": 10}},
        "weights": (0.0, 0.25, 1.0),
        "train": {"batch_size": 32},  # the losses are divided by their mean over 512 images, in so many batches
    },
    "every-step": {"task": {"supervision": {"kind": "all"}}},
}
LENGTHS = (
    {"kind": "uniform", "low": 1, "high": 6},
    {"kind": "fixed", "value": 6},
    {"kind": "log_uniform", "low": 2, "high": 6},
)


def runs_of_one_shape(form: str = "plain", **train) -> list[RunConfig]:
    """Three runs, each with a seed, lengths and weights by length of its own."""
    changes = FORMS[form]
    task, weights = changes.get("task", {}), changes.get("weights", (None,) * 3)
    return [
        tiny_run(
            run=f"run{seed}",
            seed=seed,
            task=task | {"lengths": lengths},
            model=changes.get("model", {}),
            train=changes.get("train", {}) | train | {"length_power": 0.5 * seed, "class_weight": weights[seed]},
        )
        for seed, lengths in enumerate(LENGTHS)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_each_run_gets_what_it_gets_alone_to_rounding(digits, form):
    dataset, runs = load_dataset(digits), runs_of_one_shape(form)
    tasks = [build_task(run, dataset) for run in runs]
    rows = dataset.split("train")
    samplers = [task.sampler(rows, run.train, run.seed, True) for task, run in zip(tasks, runs, strict=True)]
    alone, together = ([build_model(run, (1, 8, 8)).double() for run in runs] for _ in range(2))
    for models in (alone, together):
        for model, task, sampler in zip(models, tasks, samplers, strict=True):
            task.before_training(model, sampler)
    config = runs[0].train
    steps = [TrainStep(m, build_optimizer(m, config), tasks[0], config.grad_clip, False, False) for m in alone]
    stacked = StackedStep(together, config, tasks[0], False, False)
    for t in range(6):
        batches = [sampler.draw(t) for sampler in samplers]
        losses, norms = stacked(batches)
        for r, (step, batch) in enumerate(zip(steps, batches, strict=True)):
            loss, norm = step(batch)
            torch.testing.assert_close(losses[r], loss, rtol=1e-12, atol=0)
            torch.testing.assert_close(norms[r], norm, rtol=1e-11, atol=0)
    for one, other in zip(alone, together, strict=True):
        for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
            # Adam divides by the root of tiny squares, which multiplies the rounding of a gradient.
            torch.testing.assert_close(q, p, rtol=1e-8, atol=1e-10, msg=name)
    for moments, step in zip(stacked.moments(), steps, strict=True):
        for i, kept in step.moments()[0].items():
            for name, v in kept.items():
                torch.testing.assert_close(moments[i][name], v, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("most", [1e-3, 0.2, 1e6])
def test_every_run_is_clipped_by_its_own_norm(most):
    stacked = [torch.randn(3, *shape).requires_grad_() for shape in ((4, 5), (7,), ())]
    alone = [[p[r].detach().clone().requires_grad_() for p in stacked] for r in range(3)]
    for p, *each in zip(stacked, *alone, strict=True):
        p.grad = torch.randn_like(p) * torch.tensor([0.01, 1.0, 100.0]).reshape(3, *[1] * (p.ndim - 1))
        for r, one in enumerate(each):
            one.grad = p.grad[r].clone()
    norms = clip_each(stacked, most)
    for r, parameters in enumerate(alone):
        norm = torch.nn.utils.clip_grad_norm_(parameters, most)
        torch.testing.assert_close(norms[r], norm)
        for p, one in zip(stacked, parameters, strict=True):
            torch.testing.assert_close(p.grad[r], one.grad)


def stack_at(home: Path, runs: list[RunConfig], data: Path, trackers: list[Tracker] | None = None):
    trackers = trackers or [NullTracker()] * len(runs)
    places = [home / run.run for run in runs]
    trainings = [Training(r, p / "train", p / "work", t) for r, p, t in zip(runs, places, trackers, strict=True)]
    return train_stack(trainings, data, CPU)


@pytest.fixture(scope="module")
def stacked(digits, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("stacked")
    trackers = [FakeTracker() for _ in LENGTHS]
    done = stack_at(home, runs_of_one_shape(), digits, trackers)
    for run, about, tracker in zip(runs_of_one_shape(), done, trackers, strict=True):
        assert about == json.loads((home / run.run / "train" / "train.json").read_text())
        assert tracker.finished == [(home / run.run / "train", set(FILES))]
        assert {step for step, _, _ in tracker.values} == set(range(4, 21, 4))
    return home


def test_every_run_has_the_files_of_a_training_alone(stacked, digits, tmp_path):
    for run in runs_of_one_shape():
        home = stacked / run.run
        assert {p.name for p in (home / "train").iterdir()} == set(FILES)
        assert list((home / "work").iterdir()) == []
        assert load_model(home / "train" / "model.safetensors")[1] == run
        about = json.loads((home / "train" / "train.json").read_text())
        assert (about["run"], about["seed"], about["side_by_side"]) == (run.run, run.seed, 3)
    full_length = runs_of_one_shape()[1]  # alone, its batches are as long as those of a stack
    alone = train_at(tmp_path, full_length, digits)
    about = json.loads((stacked / full_length.run / "train" / "train.json").read_text())
    assert about.keys() - alone.keys() == {"side_by_side"}
    found, expected = reproducible_rows(stacked / full_length.run), reproducible_rows(tmp_path)
    assert [row[:-1] for row in found] == [row[:-1] for row in expected]
    assert [row[-1] for row in found] == pytest.approx([row[-1] for row in expected], rel=1e-4)


def interrupt(home: Path, runs: list[RunConfig], data: Path, at: int) -> None:
    """Train until the last run tells values of step `at`; the checkpoints are those of the row before."""
    trackers = [NullTracker() for _ in runs[1:]] + [FakeTracker(stop_at=at)]
    with pytest.raises(Stopped):
        stack_at(home, runs, data, trackers)


@pytest.mark.parametrize("at", [8, 12, 20])
def test_an_interrupted_stack_ends_the_same(digits, tmp_path, stacked, at):
    interrupt(tmp_path, runs_of_one_shape(), digits, at)
    stack_at(tmp_path, runs_of_one_shape(), digits)
    for run in runs_of_one_shape():
        assert weights(tmp_path / run.run) == weights(stacked / run.run)
        assert reproducible_rows(tmp_path / run.run) == reproducible_rows(stacked / run.run)


def assert_same_to_rounding(home: Path, expected: Path) -> None:
    found, wanted = (load_model(p / "train" / "model.safetensors")[0].state_dict() for p in (home, expected))
    for name, v in wanted.items():
        torch.testing.assert_close(found[name], v, rtol=1e-3, atol=1e-4, msg=name)
    assert history(home).select("step", "metric", "length").equals(history(expected).select("step", "metric", "length"))


def test_runs_that_a_kill_left_at_different_steps_go_on_together(digits, tmp_path, stacked):
    runs = runs_of_one_shape()
    interrupt(tmp_path / "late", runs, digits, 16)
    interrupt(tmp_path / "early", runs, digits, 8)
    for home, run in (("late", runs[0]), ("early", runs[1])):
        (tmp_path / "mixed" / run.run).mkdir(parents=True)
        (tmp_path / home / run.run / "work").rename(tmp_path / "mixed" / run.run / "work")
    stack_at(tmp_path / "mixed", runs, digits)  # the third begins at the beginning
    for run in runs:
        assert_same_to_rounding(tmp_path / "mixed" / run.run, stacked / run.run)


def test_a_run_begun_in_a_stack_may_end_alone_and_the_other_way_round(digits, tmp_path, stacked):
    runs = runs_of_one_shape()
    interrupt(tmp_path, runs, digits, 12)
    train_at(tmp_path / runs[1].run, runs[1], digits)
    assert_same_to_rounding(tmp_path / runs[1].run, stacked / runs[1].run)

    with pytest.raises(Stopped):
        train_at(tmp_path / "alone" / runs[1].run, runs[1], digits, FakeTracker(stop_at=12))
    stack_at(tmp_path / "alone", runs, digits)
    for run in runs:
        assert_same_to_rounding(tmp_path / "alone" / run.run, stacked / run.run)


def test_results_that_were_taken_away_are_written_again_without_a_step(digits, tmp_path, monkeypatch, stacked):
    runs = runs_of_one_shape()
    trainings = [Training(r, tmp_path / r.run / "train", tmp_path / r.run / "work", NullTracker()) for r in runs]
    first = train_stack(trainings, digits, CPU, keep=True)
    monkeypatch.setattr(loop, "advance", None)  # nobody calls it
    for run, about in zip(runs, first, strict=True):
        home, tracker = tmp_path / run.run, FakeTracker()
        shutil.rmtree(home / "train")
        done = train_at(home, run, digits, tracker)
        assert weights(home) == weights(stacked / run.run)
        assert reproducible_rows(home) == reproducible_rows(stacked / run.run)
        assert done == about | {"wall_s": done["wall_s"]}
        assert done["side_by_side"] == 3
        assert not list((home / "work").iterdir())
        assert tracker.finished and not tracker.values


def poisoned(at: int, victim: int):
    """A stack in which one run's weights become NaN before step `at`, from 1."""

    class Poisoned(StackedStep):
        calls = 0

        def __call__(self, batches):
            Poisoned.calls += 1
            if Poisoned.calls == at:
                self.parameters["embed_patch.weight"].data[victim] = float("nan")
            return super().__call__(batches)

    return Poisoned


@pytest.mark.parametrize("at", [1, 6, 20])
def test_a_run_that_becomes_nan_ends_alone_and_changes_no_bit_of_the_others(digits, tmp_path, monkeypatch, stacked, at):
    monkeypatch.setattr(loop, "StackedStep", poisoned(at, 1))
    runs = runs_of_one_shape()
    (tmp_path / "run1" / "train").mkdir(parents=True)
    (tmp_path / "run1" / "train" / RECORD).write_text("of an earlier training")
    done = stack_at(tmp_path, runs, digits)
    assert isinstance(done[1], TrainingError)
    assert f"run 'run1', seed 1: the loss at step {at} is nan; " in str(done[1])
    assert not (tmp_path / "run1" / "train" / RECORD).exists()
    for run in (runs[0], runs[2]):
        assert weights(tmp_path / run.run) == weights(stacked / run.run)
        assert reproducible_rows(tmp_path / run.run) == reproducible_rows(stacked / run.run)


def test_a_stack_whose_runs_all_fail_ends_at_once(digits, tmp_path):
    runs = [tiny_run(run=f"run{s}", seed=s, train={"lr": 1e30, "warmup_steps": 0, "steps": 4000}) for s in (0, 1)]
    done = stack_at(tmp_path, runs, digits)
    assert [str(error).partition(":")[0] for error in done] == ["run 'run0', seed 0", "run 'run1', seed 1"]


DIFFERENT = {
    "learning rate": {"train": {"lr": 0.004}},
    "L0": {"task": {"lengths": {"kind": "fixed", "value": 5}}},
    "order": {"task": {"order": "raster"}},
    "model": {"model": {"d_model": 16}},
    "supervision": {"task": {"supervision": {"kind": "all"}}},
}


@pytest.mark.parametrize("changes", DIFFERENT.values(), ids=DIFFERENT)
def test_runs_of_different_shapes_are_not_trained_side_by_side(digits, tmp_path, changes):
    runs = [tiny_run(run="a"), tiny_run(run="b", **changes)]
    assert by_shape(runs, lambda run: run) == [[runs[0]], [runs[1]]]
    with pytest.raises(ConfigError, match="runs 'a' and 'b' have different shapes"):
        stack_at(tmp_path, runs, digits)
    assert not list(tmp_path.rglob("*"))


def test_state_passing_is_trained_alone():
    passing = {"state_passing": {"kind": "same_image", "max_factor": 3, "share": 0.5}}
    runs = [tiny_run(seed=0), *(tiny_run(seed=s, train=passing) for s in (0, 1)), tiny_run(seed=1)]
    assert by_shape(runs, lambda run: run) == [[runs[0], runs[3]], [runs[1]], [runs[2]]]
    with pytest.raises(ConfigError, match="with state passing, which is done alone"):
        check_one_shape(runs[1:3])
    check_one_shape(runs[1:2])


def test_runs_of_one_shape_are_found_among_others():
    runs = [*runs_of_one_shape(), tiny_run(train={"steps": 21})]
    assert by_shape(runs, lambda run: run) == [runs[:3], runs[3:]]
    check_one_shape(runs[:3])


@pytest.mark.parametrize(("n", "most", "sizes"), [(5, 5, [5]), (5, 99, [5]), (60, 25, [20, 20, 20]), (5, 2, [1, 2, 2])])
def test_what_does_not_fit_is_split_evenly(n, most, sizes):
    parts = in_parts(range(n), most)
    assert [len(part) for part in parts] == sizes
    assert [i for part in parts for i in part] == list(range(n))

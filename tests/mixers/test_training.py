"""Every mixer trains: from images to a checkpoint, from passed states, stopped and resumed; and side by side where it can."""

import math

import pytest
import torch

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig
from lgmamba.data.dataset import in_memory, load_dataset
from lgmamba.model.runner import run_sequence
from lgmamba.model.sequences import SequenceModel
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.checkpoint import load_model
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.shapes import by_shape, check_one_shape
from lgmamba.train.stacked import StackedStep
from lgmamba.train.step import TrainStep
from tests.mixers.contract import ROWS, Row
from tests.mixers.test_contract import configured
from tests.train.tiny import CPU, FakeTracker, Stopped, history, shared_digits, tiny_run, train_at, weights

KINDS = {row.mixer["kind"]: row.mixer for row in ROWS.values()}
PASSES = {kind: configured(Row(mixer, None, 0)).why_no_passing is None for kind, mixer in KINDS.items()}
IMAGES = torch.randint(256, (8, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
OTHERS = pytest.mark.parametrize("mixer", [m for kind, m in KINDS.items() if kind != "mamba"], ids=lambda m: m["kind"])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return shared_digits(tmp_path_factory)


def run_with(mixer: dict, **train):
    values = tiny_run().model_dump()
    values["train"] |= train
    values["model"]["mixer"] = mixer
    return RunConfig.model_validate(values)


PASSING = {"kind": "noise", "max_factor": 2, "share": 0.5}
"""Half of a batch starts from a state that was passed, and half from none."""


@OTHERS
def test_a_mixer_trains_from_passed_states_if_it_can_and_its_checkpoint_reads_images(mixer, data, tmp_path):
    passes = PASSES[mixer["kind"]]
    if not passes:
        with pytest.raises(ValueError, match=f"found noise, expected: null with mixer {mixer['kind']}"):
            run_with(mixer, state_passing=PASSING)
    run = run_with(mixer, state_passing=PASSING if passes else None)
    about = train_at(tmp_path, run, data)
    assert about["run"] == "tiny"
    assert ("tau" in about) == (run.model.modes > 0)
    assert all(low <= median <= high for low, median, high in about.get("tau", {}).values())
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


@pytest.mark.parametrize(
    "mixer", [KINDS["gru"], KINDS["s4d"]], ids=["gru", "s4d"]
)  # nothing else is a mixer's own in this
def test_a_training_that_was_stopped_ends_with_the_same_bits(mixer, data, tmp_path):
    run = run_with(mixer)
    train_at(tmp_path / "whole", run, data)
    with pytest.raises(Stopped):
        train_at(tmp_path / "stopped", run, data, FakeTracker(stop_at=12))
    train_at(tmp_path / "stopped", run, data)
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


SIDE_BY_SIDE = [mixer for mixer in KINDS.values() if configured(Row(mixer, None, 0)).alone is None]


@pytest.mark.parametrize(
    "mixer", [*SIDE_BY_SIDE, KINDS["mamba2"] | {"post": {"length": 6}}], ids=lambda mixer: mixer["kind"]
)
def test_runs_of_a_mixer_trained_side_by_side_step_as_each_alone(mixer):
    runs, dataset = [run_with(mixer).model_copy(update={"seed": seed}) for seed in (0, 1)], in_memory(IMAGES)
    assert len(by_shape(runs, lambda run: run)) == 1

    def models() -> list[SequenceModel]:
        made = []
        for run in runs:
            torch.manual_seed(run.seed)
            made.append(build_model(run, (1, 8, 8)).double())
        return made

    task = build_task(runs[0], dataset)
    batches = [task.sampler(torch.arange(8), run.train, run.seed, True).draw(0) for run in runs]
    together = StackedStep(models(), runs[0].train, task, bf16=False, graph=False)
    alone = [
        TrainStep(m, build_optimizer(m, runs[0].train), task, runs[0].train.grad_clip, False, False) for m in models()
    ]
    for _ in range(2):
        want = [
            torch.stack(found) for found in zip(*(step(b) for step, b in zip(alone, batches, strict=True)), strict=True)
        ]
        torch.testing.assert_close(list(together(batches)), want, rtol=1e-8, atol=0)


ALONE = [mixer for mixer in KINDS.values() if mixer not in SIDE_BY_SIDE]


@pytest.mark.parametrize("mixer", [*ALONE, KINDS["mamba"] | {"dropout": 0.1}], ids=lambda mixer: mixer["kind"])
def test_runs_that_cannot_train_side_by_side_are_kept_apart(mixer):
    runs = [run_with(mixer).model_copy(update={"seed": seed}) for seed in (0, 1)]
    assert by_shape(runs, lambda run: run) == [[runs[0]], [runs[1]]]
    with pytest.raises(ConfigError, match="which is done alone"):
        check_one_shape(runs)

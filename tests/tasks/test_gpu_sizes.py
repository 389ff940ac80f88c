"""Presets for a GPU that were never run: their models and batches are built as configured, but for few sequences, and learn a step."""

import pytest
import torch

from lgmamba.config.study import load_params
from lgmamba.data.dataset import in_memory
from lgmamba.model.runner import read_at_steps
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.step import TrainStep
from tests.config.studies import PARAMS

SAMPLES = 24


@pytest.mark.parametrize("preset", ["composite_gpu", "inverse_gpu", "forecast_gpu", "next_item_gpu", "in_context_gpu"])
def test_a_preset_for_a_gpu_trains_and_is_read_beyond_its_training_length(preset):
    params = load_params(PARAMS, preset)
    run = next(iter(params.runs_by_name().values()))
    assert run.train.steps >= 3000 and len(params.seeds) >= 5
    run = run.model_copy(update={"train": run.train.model_copy(update={"batch_size": 2, "precision": "fp32"})})
    dataset = in_memory(torch.zeros(SAMPLES, 0, 0, 0, dtype=torch.uint8))
    task, model = build_task(run, dataset), build_model(run, dataset.image_shape)
    before = [p.detach().clone() for p in model.parameters()]
    step = TrainStep(model, build_optimizer(model, run.train), task, run.train.grad_clip, False, False)
    step(task.sampler(dataset.split("train"), run.train, 0, False).draw(0))
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))

    steps = [run.L0, 2 * run.L0]
    for order in params.evaluation.orders:
        sequences = task.held_out(torch.arange(2), order, 0, steps[-1])
        with torch.no_grad():
            prediction = read_at_steps(model.eval(), sequences, steps)
        assert all(
            torch.isfinite(error).all() for error in task.errors(prediction, sequences, torch.tensor(steps)).values()
        )

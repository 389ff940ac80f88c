"""Runs of the task trained side by side get what they get alone."""

import pytest
import torch

from lgmamba.config.overlays import merge
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.shapes import check_one_shape
from lgmamba.train.stacked import StackedStep
from lgmamba.train.step import TrainStep
from tests.tasks.queried.tiny import RUN, SHAPE, TOKEN, RunConfig, dataset

FORMS = {
    "plain": {},
    "length token": TOKEN,
    "convolution": {"model": {"mixer": {"conv": "standard"}}},
    "sine": {"task": {"position": {"kind": "sine"}}},
}
DRAWN = (
    {"per": "batch", "weight": None},
    {"per": "sample", "weight": {"kind": "power", "s": 0.5}},
    {"per": "sample", "lengths": {"kind": "uniform", "low": 5, "high": 6}},
)


@pytest.mark.parametrize("form", FORMS)
def test_each_run_gets_what_it_gets_alone(form):
    of_each = [{"seed": seed, "task": drawn} for seed, drawn in enumerate(DRAWN)]
    runs = [RunConfig.model_validate(merge(merge(RUN, FORMS[form]), changes)) for changes in of_each]
    check_one_shape(runs)
    data, rows, config = dataset(), torch.arange(12), runs[0].train
    tasks = [build_task(run, data) for run in runs]
    samplers = [task.sampler(rows, run.train, run.seed, True) for task, run in zip(tasks, runs, strict=True)]
    alone, together = ([build_model(run, SHAPE).double() for run in runs] for _ in range(2))
    steps = [
        TrainStep(model, build_optimizer(model, config), task, config.grad_clip, False, False)
        for model, task in zip(alone, tasks, strict=True)
    ]
    stacked = StackedStep(together, config, tasks[0], False, False)
    for t in range(4):
        batches = [sampler.draw(t) for sampler in samplers]
        losses, norms = stacked(batches)
        for r, (step, batch) in enumerate(zip(steps, batches, strict=True)):
            loss, norm = step(batch)
            torch.testing.assert_close(losses[r], loss, rtol=1e-12, atol=0)
            torch.testing.assert_close(norms[r], norm, rtol=1e-10, atol=0)

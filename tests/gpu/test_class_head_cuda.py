"""A class head on a GPU: recorded steps are the launched ones to the bit, for both tasks that read images."""

import pytest
import torch

from lgmamba.data.dataset import load_dataset
from lgmamba.scan import available_backends
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.step import TrainStep
from tests.train.test_class_head import run_of
from tests.train.tiny import shared_digits

REASON = available_backends("cuda")["cuda"]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=f"CUDA scan: {REASON}")]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return shared_digits(tmp_path_factory)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["draw", "queried"])
def test_recorded_steps_equal_launched_ones(digits, kind, bf16):
    run, dataset = run_of(kind, 0.25), load_dataset(digits, "cuda")
    states = []
    for graph in (False, True):
        task, model = build_task(run, dataset), build_model(run, dataset.image_shape).cuda()
        sampler = task.sampler(dataset.split("train"), run.train, 0, True)
        task.before_training(model, sampler)
        step = TrainStep(model, build_optimizer(model, run.train), task, 1.0, bf16, graph)
        states.append(([step(sampler.draw(i))[0].item() for i in range(8)], model.state_dict()))
    (losses, state), (losses_graph, state_graph) = states
    assert losses_graph == losses
    assert all(torch.equal(state_graph[name], state[name]) for name in state)

"""The task that docs/add_a_task.md writes out does what the page says: it trains, and is read beyond its training length."""

import importlib.util
import re

import pytest
import torch

from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.data.dataset import in_memory
from lgmamba.model.runner import read_at_steps, run_sequence
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.step import TrainStep
from tests.train.tiny import RUN
from tests.workflow.checkouts import ROOT


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page's last block of code, as a module."""
    page = (ROOT / "docs/add_a_task.md").read_text(encoding="utf-8")
    path = tmp_path_factory.mktemp("page") / "mean_task.py"
    path.write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[-1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("mean_task", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_s_task_learns_and_is_read_far_beyond(written):
    config = written.MeanConfig.model_validate(
        {"kind": "mean", "lengths": {"kind": "uniform", "low": 1, "high": 8}, "supervision": {"kind": "last"}}
    )
    task = written.MeanTask(config, in_memory(torch.zeros(40, 0, 0, 0, dtype=torch.uint8)))
    torch.manual_seed(0)
    model = task.build_model(
        config, ModelConfig.model_validate(RUN["model"] | {"position": None, "decoder": None}), (0, 0, 0)
    )
    train = TrainConfig.model_validate(RUN["train"] | {"lr": 0.01, "batch_size": 32})
    step = TrainStep(model, build_optimizer(model, train), task, 1.0, bf16=False, graph=False)
    sampler = task.sampler(torch.arange(40), train, 0, True)
    losses = [float(step(sampler.draw(i))[0]) for i in range(150)]
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])

    model.eval()
    sequences, steps = task.held_out(torch.arange(40), "gaussian", 0, 200), [1, 8, 200]
    prediction = run_sequence(model, sequences, steps, "prefix", chunk=16)
    errors = task.scores(prediction, sequences, torch.tensor(steps)).values["half_square"].mean(0)
    assert errors[1] < 0.3 * task.baselines(sequences, torch.tensor([8]), None)["zero"].values["half_square"].mean()
    with torch.no_grad():
        torch.testing.assert_close(
            prediction[:, 1:2], read_at_steps(model, sequences.upto(8), [8]), rtol=1e-4, atol=1e-5
        )

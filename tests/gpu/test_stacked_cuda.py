"""Trainings side by side on a GPU: recorded and launched steps agree, and each run gets what it gets alone."""

import pytest
import torch

from lgmamba.data.dataset import in_memory
from lgmamba.scan import available_backends, cuda_conv
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.stacked import StackedStep
from lgmamba.train.stacks import bytes_of_a_run, runs_that_fit
from lgmamba.train.step import TrainStep
from tests.scan.cases import relative_rms
from tests.train.test_stacked import runs_of_one_shape

REASON = available_backends("cuda")["cuda"]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=f"CUDA scan: {REASON}")]

STEPS = 8


def prepared(form: str):
    g = torch.Generator("cuda").manual_seed(0)
    dataset = in_memory(torch.randint(256, (64, 1, 8, 8), dtype=torch.uint8, device="cuda", generator=g))
    runs = runs_of_one_shape(form, batch_size=16)
    tasks = [build_task(run, dataset) for run in runs]
    rows = dataset.split("train")
    samplers = [task.sampler(rows, run.train, run.seed, True) for task, run in zip(tasks, runs, strict=True)]
    models = [build_model(run, dataset.image_shape).cuda() for run in runs]
    return models, tasks, samplers, runs[0].train


def stacked(form: str, bf16: bool, graph: bool):
    """Losses (STEPS, R), and the weights of each run."""
    models, tasks, samplers, config = prepared(form)
    step = StackedStep(models, config, tasks[0], bf16, graph)
    losses = [step([sampler.draw(t) for sampler in samplers])[0].clone() for t in range(STEPS)]
    return torch.stack(losses), [model.state_dict() for model in models]


@pytest.mark.parametrize("form", ["plain", "adaptive", "spatial-moves", "random_k"])
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_each_run_gets_what_it_gets_alone(form, bf16):
    losses, weights = stacked(form, bf16, graph=True)
    models, tasks, samplers, config = prepared(form)
    for r, (model, task, sampler) in enumerate(zip(models, tasks, samplers, strict=True)):
        step = TrainStep(model, build_optimizer(model, config), task, config.grad_clip, bf16, graph=True)
        alone = torch.stack([step(sampler.draw(t))[0].clone() for t in range(STEPS)])
        torch.testing.assert_close(losses[:, r], alone, rtol=2e-2 if bf16 else 1e-4, atol=0)
        if not bf16:
            for name, v in model.state_dict().items():
                torch.testing.assert_close(weights[r][name], v, rtol=1e-2, atol=1e-3, msg=name)


@pytest.mark.parametrize("form", ["plain", "adaptive"])
def test_recorded_and_launched_steps_have_the_same_bits(form):
    (recorded, mine), (launched, other) = (stacked(form, True, graph) for graph in (True, False))
    assert torch.equal(recorded, launched)
    assert all(torch.equal(v, b[name]) for a, b in zip(mine, other, strict=True) for name, v in a.items())


def plain(x, weight, bias, carry):
    L, W = x.shape[1], weight.shape[1]
    padded = torch.cat([carry, x], dim=1)  # (B, W - 1 + L, D)
    return torch.nn.functional.silu(bias + sum(padded[:, k : k + L] * weight[:, k] for k in range(W)))


@pytest.mark.parametrize(("B", "L", "D"), [(3, 100, 72), (64, 37, 12), (1, 1, 5), (200, 33, 256)])
def test_the_convolution_of_each_run_has_its_own_weights(B, L, D, R=4, W=4):
    g = torch.Generator().manual_seed(0)
    shapes = ((R, B, L, D), (R, D, W), (R, D), (R, B, W - 1, D))
    leaves = [torch.randn(*s, generator=g).cuda().requires_grad_() for s in shapes]
    dy = torch.randn(R, B, L, D, generator=g).cuda()
    exact = [v.detach().double().requires_grad_() for v in leaves]
    y, wanted = torch.vmap(cuda_conv.causal_conv1d_silu)(*leaves), torch.vmap(plain)(*exact)
    got, want = torch.autograd.grad(y, leaves, dy), torch.autograd.grad(wanted, exact, dy.double())
    errors = [relative_rms(a, b) for a, b in zip((y, *got), (wanted, *want), strict=True)]
    assert max(errors) < 5e-6, errors


def test_the_memory_of_a_stack_is_foreseen():
    models, tasks, samplers, config = prepared("plain")
    run = runs_of_one_shape("plain", batch_size=16)[0]
    dataset = tasks[0].dataset
    expected = bytes_of_a_run(run, dataset, torch.device("cuda"))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    StackedStep(models, config, tasks[0], True, graph=False)([sampler.draw(0) for sampler in samplers])
    taken = torch.cuda.max_memory_allocated() - before
    assert taken <= 1.1 * len(models) * expected
    assert runs_that_fit(run, dataset, torch.device("cuda")) >= len(models)

"""Every mixer on a GPU: what it computes on a CPU, and a recorded step that gives what an unrecorded one does."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.sizes import SMALL
from lgmamba.model.stack import Stack
from lgmamba.train.stacked import stack_parameters
from tests.gpu.recorded import assert_recorded_as_launched

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
B, L = 4, 70
MIXERS = pytest.mark.parametrize("name", SMALL)


def stack(name: str, seed: int = 0) -> Stack:
    values = {"d_model": 16, "n_layer": 2, "mixer": SMALL[name], "adaptive": None, "scan_backend": "auto"}
    torch.manual_seed(seed)
    return Stack(ModelConfig.model_validate(values), L)


def tokens() -> torch.Tensor:
    return torch.randn(B, L, 16, generator=torch.Generator().manual_seed(0))


@MIXERS
@pytest.mark.parametrize("hook", [None, lambda call: call], ids=["fast", "hooked"])
def test_a_mixer_computes_on_a_gpu_what_it_computes_on_a_cpu(name, hook):
    want, end = stack(name).encode(tokens(), hook=hook)
    with torch.backends.cudnn.flags(allow_tf32=False):  # torch's default rounds the products of its GRU and LSTM
        got, state = stack(name).cuda().encode(tokens().cuda(), hook=hook)
    torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-4)
    for mine, other in zip(state.tensors(), end.tensors(), strict=True):
        torch.testing.assert_close(mine.cpu(), other, rtol=1e-3, atol=1e-3)


class Loss(nn.Module):
    """A number that depends on every weight of a stack."""

    def __init__(self, stack: Stack):
        super().__init__()
        self.stack = stack

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stack.encode(x, want_state=False)[0].float().square().mean()


@pytest.mark.parametrize("name", [name for name in SMALL if stack(name).blocks[0].mixer.config.alone is None])
def test_stacked_weights_give_each_run_its_own_gradients(name):
    models, x = [Loss(stack(name, seed)).cuda() for seed in range(2)], tokens().cuda()
    alone = []
    for model in models:
        value = model(x)
        alone.append((value, *torch.autograd.grad(value, list(model.parameters()), allow_unused=True)))
    weights = stack_parameters(models)
    losses = torch.vmap(lambda own: functional_call(models[0], own, (x,)))(weights)
    found = (losses, *torch.autograd.grad(losses.sum(), list(weights.values()), allow_unused=True))
    for run, wanted in enumerate(alone):
        for mine, other in zip(found, wanted, strict=True):
            if other is not None:
                torch.testing.assert_close(mine[run], other, rtol=1e-3, atol=1e-5)


@MIXERS
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_a_recorded_step_gives_what_an_unrecorded_one_does(name, bf16):
    assert_recorded_as_launched(stack(name).cuda(), tokens().cuda(), bf16)

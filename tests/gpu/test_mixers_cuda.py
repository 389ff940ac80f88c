"""Every mixer on a GPU: what it computes on a CPU, and a recorded step that gives what an unrecorded one does."""

import pytest
import torch

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.sizes import SMALL
from lgmamba.model.stack import Stack
from lgmamba.train.graph import WARM_UP, Replayed

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
B, L = 4, 70
MIXERS = pytest.mark.parametrize("name", SMALL)


def stack(name: str) -> Stack:
    values = {"d_model": 16, "n_layer": 2, "mixer": SMALL[name], "adaptive": None, "scan_backend": "auto"}
    torch.manual_seed(0)
    return Stack(ModelConfig.model_validate(values), L)


def tokens() -> torch.Tensor:
    return torch.randn(B, L, 16, generator=torch.Generator().manual_seed(0))


@MIXERS
@pytest.mark.parametrize("hook", [None, lambda call: call], ids=["fast", "hooked"])
def test_a_mixer_computes_on_a_gpu_what_it_computes_on_a_cpu(name, hook):
    want, end = stack(name).encode(tokens(), hook=hook)
    got, state = stack(name).cuda().encode(tokens().cuda(), hook=hook)
    torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-4)
    for mine, other in zip(state.tensors(), end.tensors(), strict=True):
        torch.testing.assert_close(mine.cpu(), other, rtol=1e-3, atol=1e-3)


@MIXERS
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_a_recorded_step_gives_what_an_unrecorded_one_does(name, bf16):
    model, x = stack(name).cuda(), tokens().cuda()

    def step(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        model.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            loss = model.encode(x, want_state=False)[0].float().square().mean()
        loss.backward()
        return loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)

    want = [v.clone() for v in step(x)]
    replayed = Replayed(step, model.zero_grad)
    for _ in range(WARM_UP + 2):
        got = replayed(x)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)

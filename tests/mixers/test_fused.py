"""Mixer and norm in the compiled kernel compute what the plain operators do, gradients included, and step aside where somebody looks."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import State
from lgmamba.mixers.mamba import fused
from lgmamba.mixers.mamba.mixer import MambaMixer
from lgmamba.mixers.norm import RMSNorm
from lgmamba.scan import cpu_rows
from tests.model.models import BASE
from tests.scan.cases import RUNNABLE, assert_close

pytestmark = pytest.mark.skipif(("cpu", "cpu") not in RUNNABLE, reason="no C++ compiler")

SIZES = [(2, 9, 6, 3), (1, 1, 5, 1), (3, 70, 32, 9)]
"""B, L, d, N: rows that are no whole vectors, one step, two chunks."""
TOLERANCE = 5e-6


def mixer_of(d: int, N: int) -> MambaMixer:
    torch.manual_seed(0)
    mixer = BASE["mixer"] | {"conv": "none", "d_state": N}
    made = MambaMixer(ModelConfig.model_validate(BASE | {"d_model": d, "mixer": mixer}), 0)
    with torch.no_grad():
        for p in made.parameters():
            p += 0.1 * torch.randn_like(p)
    return made


def found(module: nn.Module, call, *inputs: Tensor) -> dict[str, Tensor]:
    """Outputs, and the gradients of all inputs and parameters."""
    leaves = [v.detach().requires_grad_() for v in inputs]
    outputs = call(*leaves)
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(v.shape, generator=g, dtype=torch.float64).float().to(v.dtype) for v in outputs]
    named = dict(module.named_parameters()) | {f"input {i}": v for i, v in enumerate(leaves)}
    gradients = torch.autograd.grad(outputs, list(named.values()), weights)
    return {f"output {i}": v for i, v in enumerate(outputs)} | dict(zip(named, gradients, strict=True))


@pytest.mark.parametrize(("B", "L", "d", "N"), SIZES)
def test_a_fused_mixer_is_the_plain_one(monkeypatch, B, L, d, N):
    mixer, calls = mixer_of(d, N), []
    mix = fused.mix
    monkeypatch.setattr(fused, "mix", lambda *args: calls.append(len(args)) or mix(*args))
    u, h0 = torch.randn(B, L, d), torch.randn(B, *mixer.shape)

    def whole(u: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        out, state, _ = mixer(u, State(h0))
        return out, state.memory

    got = found(mixer, whole, u, h0)
    with torch.no_grad():
        read = whole(u, h0)
    assert len(calls) == 2
    assert all(torch.equal(v, got[f"output {i}"]) for i, v in enumerate(read))
    mixer.double()
    want = found(mixer, whole, u.double(), h0.double())
    assert len(calls) == 2  # in float64 it is plain
    assert_close(got, want, TOLERANCE)


def test_gradients_that_nobody_wants_are_none_and_a_state_alone_has_some():
    mixer = mixer_of(6, 3)
    out, state, _ = mixer(torch.randn(2, 4, 6), want_state=True)
    assert state.memory.requires_grad
    (gradient,) = torch.autograd.grad(state.memory.sum(), [mixer.in_proj.weight], retain_graph=True)
    assert gradient.abs().sum() > 0
    (first,) = torch.autograd.grad(out.square().sum(), [mixer.in_proj.weight], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
    out, state, _ = mixer(torch.randn(2, 4, 6), want_state=False)
    assert state is None and out.requires_grad


@pytest.mark.parametrize("shape", [(3, 5, 20), (7, 3), (40, 9, 32)])
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_the_norm_is_torchs(shape, apart):
    norm = RMSNorm(shape[-1], eps=1e-5)
    nn.init.normal_(norm.weight)
    x = 3 * torch.randn(*shape[:-1], 2 * shape[-1])[..., : shape[-1]]
    x = x if apart else x.contiguous()
    assert cpu_rows.runs((x, norm.weight))
    got = found(norm, lambda x: (norm(x),), x)
    want = found(norm.double(), lambda x: (norm(x),), x.double())
    assert_close(got, want, TOLERANCE)


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script`:DeprecationWarning"
)  # torch's own forward-mode derivatives use it
def test_it_steps_aside_where_somebody_looks_through():
    x = torch.randn(2, 3)
    assert cpu_rows.runs((x, None))
    assert (
        not cpu_rows.runs((x.double(),)) and not cpu_rows.runs((x.bfloat16(),)) and not cpu_rows.runs((x.to("meta"),))
    )
    seen = []

    def look(v: Tensor) -> Tensor:
        seen.append(cpu_rows.runs((v, x)))
        return v.sum()

    torch.vmap(look)(x)
    torch.func.grad(look)(x)
    with forward_ad.dual_level():
        look(forward_ad.make_dual(x, x))
    with torch.autocast("cpu", torch.bfloat16):
        look(x)
    assert seen == [False] * 4


def test_threads_change_no_bit_of_the_norm():
    norm, u = RMSNorm(32, eps=1e-5), torch.randn(5, 40, 32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(found(norm, lambda u: (norm(u),), u))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[1][name], v) for name, v in results[0].items())

"""Kernels of flash-linear-attention (fla) against recurrences step by step: outputs, last states and all gradients."""

import math
import os

import pytest
import torch

from lgmamba.config.run import ModelConfig
from lgmamba.mixers import kernels, sizes
from lgmamba.mixers.registry import build_mixer
from lgmamba.mixers.table import configured
from lgmamba.model.stack import Stack
from tests.gpu.recorded import assert_recorded_as_launched
from tests.mixers.recurrences import RECURRENCES, drawn

REASON = kernels.unavailable("cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(REASON is not None, reason=f"fla: {REASON}"),
    pytest.mark.filterwarnings(
        "ignore"
    ),  # fla warns of float32 on platforms that it does not name, and Triton of its own
]
LOST = {torch.float32: 2**-10, torch.bfloat16: 2**-8}
"""What a number may lose, as a part of itself, where a kernel multiplies it: TF32 keeps ten binary digits, of which Triton drops the
others (triton-lang/triton#4574, and a test below); bfloat16 keeps seven, to the nearest."""
ROUNDINGS = 8
"""By so many of these a result may be off, by its norm: products, states between chunks, results and their gradients, each of two numbers."""
CANCELLED = 16
"""The same of gradients of a mixer's weights: sums over steps and sequences whose terms cancel for the most part."""
WIDTHS = {"narrow": (2, 17, 8), "wide": (4, 104, 52)}
"""H, P and N, of the small GLA and the large gated DeltaNet, whose kernels are compiled once for both tests."""
CASES = [
    *(("narrow", length, torch.float32) for length in (1, 33, 130)),
    ("narrow", 130, torch.bfloat16),
    ("wide", 130, torch.float32),
    ("wide", 33, torch.bfloat16),
    ("wide", 130, torch.bfloat16),
]
"""None is whole chunks. Not every combination: for each width and type the kernels are compiled anew."""


@pytest.fixture(scope="module", autouse=True)
def least_plans():
    """Each kernel takes the least of its plans, where it would compile and time all, dozens for each width and type: hours for this file.

    What a kernel computes must not depend on its plan; how fast it does is not tested. The least has fewest stages and smallest blocks, which
    is the least shared memory, and about four warps. Plans that fla leaves out on a card, as wrongly compiled there, are out before one is
    chosen. fla's own switch (FLA_CACHE_MODE) reads plans from a file for each kernel, of which it ships none. With LGMAMBA_ALL_PLANS=1
    kernels take the fastest, as they do for users.
    """
    if REASON is not None or os.environ.get("LGMAMBA_ALL_PLANS"):
        yield
        return
    from triton.runtime.autotuner import Autotuner

    def size(plan) -> tuple[int, ...]:
        return plan.num_stages, math.prod(plan.kwargs.values()), abs(plan.num_warps - 4), plan.num_warps

    left = Autotuner.prune_configs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Autotuner, "prune_configs", lambda tuner, given: [min(left(tuner, given), key=size)])
        patch.setattr(Autotuner, "_bench", lambda tuner, *_, **__: [0.0])  # of one plan nothing is to be known
        yield


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


@pytest.mark.parametrize("started", [False, True], ids=["empty", "started"])
@pytest.mark.parametrize(("width", "length", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("scan", RECURRENCES)
def test_a_kernel_is_its_recurrence(scan, width, length, started, dtype):
    H, P, N = WIDTHS[width]
    d = {name: v.cuda() for name, v in drawn(length, P=P, N=N, H=H).items()}
    found = []
    for wide in (True, False):
        leaves = {name: (v if wide else v.float()).requires_grad_() for name, v in d.items()}
        h0 = leaves["h0"] if started else None
        if wide:
            y, S = RECURRENCES[scan](leaves, h0)
        else:
            with torch.autocast("cuda", torch.bfloat16, enabled=dtype is torch.bfloat16):
                y, S = getattr(kernels, scan)(*RECURRENCES[scan].given(leaves), h0)
        loss = y.square().sum() + S.sin().sum()
        grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        found.append({"y": y, "S": S} | {f"d{name}": g for name, g in zip(leaves, grads, strict=True) if g is not None})
    want, got = found
    assert got.keys() == want.keys()
    off = {name: relative(got[name], want[name]) / LOST[dtype] for name in want if want[name].any()}
    assert max(off.values()) < ROUNDINGS, off


def test_a_product_drops_what_its_type_has_no_place_for():
    """Nearest would be 1 + 2^-10: one step of which nothing is kept says what all bounds here rest on."""
    one = torch.zeros(1, 1, 1, 16, device="cuda")
    one[..., 0] = 1
    v = torch.full((1, 1, 1, 16), 1 + 2**-10 - 2**-20, device="cuda")
    y, _ = kernels.gla_scan(torch.zeros_like(one), one, one, v)
    assert y.unique().tolist() == [1.0]


SERVED = [(size, name) for size in ("SMALL", "LARGE") for name in getattr(sizes, size)]
SERVED = [(size, name) for size, name in SERVED if configured(getattr(sizes, size)[name]).FLA]


def in_two_pieces(mixer, u: torch.Tensor, hook) -> dict[str, torch.Tensor]:
    """Outputs, the last state, and gradients of everything, from a random direction of outputs and memory."""
    first, state, _ = mixer(u[:, :33], hook=hook)
    second, state, _ = mixer(u[:, 33:], state, t0=33, hook=hook)
    found = {"first": first, "second": second}
    found |= {f"state {i}": v for i, v in enumerate(state.tensors)}
    generator = torch.Generator().manual_seed(2)
    out = torch.cat([first, second], dim=1)
    loss = sum((v * torch.randn(v.shape, generator=generator).to(v)).sum() for v in (out, state.memory))
    leaves = {"u": u} | dict(mixer.named_parameters())
    grads = torch.autograd.grad(loss, list(leaves.values()))
    return found | {f"d{name}": g for name, g in zip(leaves, grads, strict=True)}


@pytest.mark.parametrize(("size", "name"), SERVED, ids=str)
def test_a_mixer_by_kernels_is_the_mixer_step_by_step(size, name):
    """In two pieces, neither of which is whole chunks; under a hook it takes its steps one after the other."""
    d = {"SMALL": 16, "LARGE": 256}[size]
    values = {"d_model": d, "n_layer": 2, "mixer": getattr(sizes, size)[name], "adaptive": None, "scan_backend": "fla"}
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    mixer = build_mixer(ModelConfig.model_validate(values), 1)
    with torch.no_grad():
        for p in mixer.parameters():  # off the start, where the out-projection of RWKV-7 is zero
            p += 0.5 * d**-0.5 * torch.randn(p.shape, generator=generator)
    mixer = mixer.cuda()
    u = torch.randn(2, 103, d, generator=generator).cuda().requires_grad_()
    want, got = in_two_pieces(mixer, u, lambda call: call), in_two_pieces(mixer, u, None)
    off = {key: relative(got[key], want[key]) / LOST[torch.float32] for key in want if want[key].any()}
    assert all(value < (CANCELLED if key.startswith("d") else ROUNDINGS) for key, value in off.items()), off


@pytest.mark.parametrize(("size", "name"), [pair for pair in SERVED if pair[0] == "SMALL"], ids=str)
def test_a_step_by_kernels_can_be_recorded(size, name):
    values = {"d_model": 16, "n_layer": 2, "mixer": getattr(sizes, size)[name], "adaptive": None, "scan_backend": "fla"}
    torch.manual_seed(0)
    model = Stack(ModelConfig.model_validate(values), 70).cuda()
    x = torch.randn(4, 70, 16, generator=torch.Generator().manual_seed(0)).cuda()
    assert_recorded_as_launched(model, x, bf16=True)

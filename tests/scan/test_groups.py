"""B and C by groups of channels: a group's numbers are those of a call that has this group alone."""

from dataclasses import replace

import pytest
import torch

from lgmamba.scan import scan_step, selective_scan
from tests.scan.cases import RUNNABLE, TOLERANCE, Case, assert_close, make_inputs, options, relative_rms, run

CHANNELS = {"x": 2, "dt": 2, "A": 0, "Bmat": 2, "Cmat": 2, "Dskip": 0, "z": 2, "dt_bias": 0, "h0": 1, "y": 2, "last": 1}
CHANNELS["states"] = 2
"""Axis of channels, or of groups."""

EXACT = ("cpu",)
"""Backends whose groups have the bits of a call alone; others add up some gradients in an order of their own."""


def of_group(tensors, case: Case, g: int):
    """One group's share of inputs, outputs or gradients."""
    return {
        k: None if v is None else v.chunk(case.G, dim=CHANNELS[k.removeprefix("d ")])[g] for k, v in tensors.items()
    }


CASES = [
    Case(B=3, L=70, D=3 * 32, N=8, G=3, every=16),
    Case(B=2, L=33, D=4 * 5, N=3, G=4, every=7),
    Case(B=1, L=130, D=2 * 100, N=16, G=2),  # several tasks in each group
    Case(B=130, L=3, D=2 * 17, N=2, G=2),
]


@pytest.mark.parametrize(("backend", "device"), RUNNABLE, ids=lambda v: v)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_groups_side_by_side_have_the_bits_of_each_alone(backend, device, case, threads):
    torch.set_num_threads(threads)
    inputs = make_inputs(case, torch.float32, device)
    weights = weights_of(case, device)
    together = outputs_and_gradients(inputs, weights, case, backend)
    for g in range(case.G):
        alone = replace(case, D=case.D // case.G, G=1)
        want = outputs_and_gradients(of_group(inputs, case, g), of_group(weights, case, g), alone, backend)
        got = of_group(together, case, g)
        if backend in EXACT:
            assert [k for k in want if not torch.equal(got[k], want[k])] == []
        else:
            assert_close(got, want, TOLERANCE[torch.float32])


def weights_of(case: Case, device: str):
    """Loss weights of the outputs, by name."""
    shapes = {"y": (case.B, case.L, case.D), "last": (case.B, case.D, case.N)}
    if case.every:
        shapes["states"] = (case.B, case.L // case.every, case.D, case.N)
    g = torch.Generator().manual_seed(7)
    return {k: torch.randn(shape, generator=g).to(device) for k, shape in shapes.items()}


def outputs_and_gradients(inputs, weights, case: Case, backend: str):
    leaves = {k: None if v is None else v.detach().clone().requires_grad_() for k, v in inputs.items()}
    outputs = dict(zip(weights, selective_scan(**leaves, **options(case), backend=backend), strict=True))
    used = {k: v for k, v in leaves.items() if v is not None}
    grads = torch.autograd.grad(list(outputs.values()), list(used.values()), list(weights.values()))
    return {k: v.detach() for k, v in outputs.items()} | {f"d {k}": v for k, v in zip(used, grads, strict=True)}


@pytest.mark.parametrize(("backend", "device"), [*RUNNABLE, ("reference", "cpu")], ids=lambda v: v)
def test_one_group_may_have_its_axis_or_not(backend, device):
    case = Case(B=2, L=20, D=18, N=5, every=6)
    inputs = make_inputs(case, torch.float32, device)
    want = run(inputs, case, backend)
    got = run(inputs | {k: inputs[k][:, :, None] for k in ("Bmat", "Cmat")}, case, backend)
    assert [k for k in want if not torch.equal(got[k].reshape(want[k].shape), want[k])] == []


@pytest.mark.parametrize(("backend", "device"), [*RUNNABLE, ("reference", "cpu")], ids=lambda v: v)
def test_only_one_projection_may_have_groups(backend, device):
    case = Case(B=2, L=20, D=18, N=5, G=3, every=6)
    inputs = make_inputs(case, torch.float32, device)
    inputs["Bmat"] = inputs["Bmat"][:, :, 0].contiguous()
    got = run(inputs, case, backend)
    want = run(inputs | {"Bmat": inputs["Bmat"][:, :, None].repeat(1, 1, 3, 1)}, case, backend)
    want["d Bmat"] = want["d Bmat"].sum(2)
    assert_close(got, want, TOLERANCE[torch.float32])


def test_a_step_takes_groups_as_the_scan_does():
    case = Case(B=2, L=1, D=12, N=5, G=3).plain()
    inputs = make_inputs(case)
    h = torch.randn(2, 12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    at0 = {k: inputs[k][:, 0] for k in ("x", "dt", "Bmat", "Cmat")}
    y, new = scan_step(**at0, A=inputs["A"], Dskip=None, h=h)
    for g in range(3):
        mine = of_group(inputs, case, g)
        each, last = selective_scan(**mine | {"h0": h.chunk(3, 1)[g]}, return_last_state=True, backend="reference")
        assert relative_rms(y.chunk(3, 1)[g], each[:, 0]) < 1e-12
        assert relative_rms(new.chunk(3, 1)[g], last) < 1e-12

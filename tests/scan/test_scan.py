"""Every runnable backend against the float64 reference: values and all gradients, and what callers rely on."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lgmamba.scan import scan_step, selective_scan
from tests.scan.cases import (
    RUNNABLE,
    TOLERANCE,
    Case,
    assert_close,
    assert_matches_reference,
    cotangent,
    make_inputs,
    options,
    relative_rms,
    run,
)

PER_STEP = ("x", "dt", "Bmat", "Cmat", "z")

pytestmark = pytest.mark.parametrize(("backend", "device"), RUNNABLE, ids=lambda v: v)

SHAPES = [
    Case(B=1, L=1, D=1, N=1),
    Case(B=2, L=1, D=5, N=3, every=1),
    Case(B=3, L=63, D=1, N=16, every=9),
    Case(B=2, L=65, D=17, N=16, every=16),
    Case(B=2, L=129, D=40, N=7, every=50),
    Case(B=1, L=31, D=33, N=256, every=40),
    Case(B=140, L=5, D=18, N=2, every=5),
    Case(B=2, L=300, D=24, N=16),
    Case(B=2, L=37, D=6, N=5, G=6, every=10),
    Case(B=3, L=70, D=40, N=16, G=2, every=16),
    Case(B=1, L=65, D=96, N=8, G=3),
    Case(B=2, L=173, D=32, N=12),
    Case(B=2, L=100, D=16, N=24),
]


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_values_and_gradients(backend, device, case):
    assert_matches_reference(case, backend, device)


@pytest.mark.parametrize("case", [s.plain() for s in (*SHAPES[:5], SHAPES[-2])], ids=str)
def test_values_and_gradients_with_nothing_optional(backend, device, case):
    assert_matches_reference(case, backend, device)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=st.builds(
        Case,
        B=st.integers(1, 4),
        L=st.integers(1, 80),
        D=st.integers(1, 40),
        N=st.integers(1, 64),
        z=st.booleans(),
        bias=st.booleans(),
        softplus=st.booleans(),
        h0=st.booleans(),
        every=st.none() | st.integers(1, 90),
        last=st.booleans(),
        seed=st.integers(0, 1000),
        skip=st.booleans(),
    ),
    G=st.none() | st.integers(1, 5),
)
def test_values_and_gradients_over_random_shapes(backend, device, case, G):
    assert_matches_reference(replace(case, G=G, D=case.D * (G or 1)), backend, device)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_inputs(backend, device, dtype):
    assert_matches_reference(Case(B=2, L=65, D=20, N=16, every=13), backend, device, dtype)


def test_mixed_precision_inputs(backend, device):
    dtypes = {"x": torch.bfloat16, "z": torch.bfloat16, "Bmat": torch.bfloat16, "Cmat": torch.bfloat16}
    assert_matches_reference(Case(B=2, L=33, D=20, N=16, every=11), backend, device, dtypes)


def strided(inputs):
    """Equal values as a model hands them over: channels first, slices of wider tensors, expanded axes."""
    made = dict(inputs)
    made["x"] = inputs["x"].transpose(1, 2).contiguous().transpose(1, 2)
    made["z"] = torch.cat([inputs["x"], inputs["z"]], dim=2)[:, :, inputs["x"].shape[2] :]
    made["dt"] = inputs["dt"].repeat_interleave(2, dim=1)[:, ::2]
    both = torch.cat([inputs["Bmat"], inputs["Cmat"]], dim=2)
    made["Bmat"], made["Cmat"] = both.chunk(2, dim=2)
    made["A"] = inputs["A"].t().contiguous().t()
    made["h0"] = inputs["h0"].transpose(1, 2).contiguous().transpose(1, 2)
    return made


def test_non_contiguous_inputs(backend, device):
    case = Case(B=3, L=21, D=19, N=6, every=4)
    inputs = make_inputs(case, torch.float32, device)
    assert not any(strided(inputs)[k].is_contiguous() for k in ("x", "z", "dt", "Bmat", "Cmat", "A", "h0"))
    got, want = run(strided(inputs), case, backend), run(inputs, case, backend)
    assert_close(got, want, TOLERANCE[torch.float32])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_expanded_projections_and_cotangent(backend, device, axis):
    case = Case(B=2, L=9, D=5, N=4, last=False)
    inputs = make_inputs(case, torch.float32, device)
    narrow = {k: inputs[k].narrow(axis, 0, 1).requires_grad_() for k in ("Bmat", "Cmat")}
    exact = {k: v.detach().double().cpu().requires_grad_() for k, v in narrow.items()}
    grads = []
    for small, where in ((narrow, backend), (exact, "reference")):
        rest = {k: v.to(small["Bmat"].device, small["Bmat"].dtype) for k, v in inputs.items()}
        wide = {k: v.expand_as(rest[k]) for k, v in small.items()}
        y = selective_scan(**rest | wide, **options(case), backend=where)
        grads.append(torch.autograd.grad(y.sum(), list(small.values())))
    for got, want in zip(*grads, strict=True):
        assert relative_rms(got, want) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("name", ["x", "dt", "A", "Bmat", "Cmat", "Dskip", "z", "dt_bias", "h0"])
def test_a_single_required_gradient_equals_that_of_all(backend, device, name):
    case = Case(B=2, L=19, D=18, N=5, every=6)
    inputs = make_inputs(case, torch.float32, device)
    want = run(inputs, case, backend)[f"d {name}"]
    leaves = dict(inputs) | {name: inputs[name].clone().requires_grad_()}
    outputs = dict(
        zip(("y", "last", "states"), selective_scan(**leaves, **options(case), backend=backend), strict=True)
    )
    through = {k: v for k, v in outputs.items() if v.requires_grad}
    weights = [cotangent(k, v, case.seed) for k, v in through.items()]
    (got,) = torch.autograd.grad(list(through.values()), [leaves[name]], weights)
    assert_close({name: got}, {name: want}, TOLERANCE[torch.float32])


@pytest.mark.parametrize("through", ["y", "last", "states"])
def test_gradients_through_a_single_output(backend, device, through):
    case = Case(B=2, L=35, D=18, N=5, every=8)
    grads = []
    for dtype, where, dev in ((torch.float32, backend, device), (torch.float64, "reference", "cpu")):
        leaves = {k: v.requires_grad_() for k, v in make_inputs(case, dtype, dev).items()}
        result = selective_scan(**leaves, **options(case), backend=where)
        output = dict(zip(("y", "last", "states"), result, strict=True))[through]
        grad = torch.autograd.grad(output, list(leaves.values()), cotangent(through, output, 0), allow_unused=True)
        grads.append({k: g for k, g in zip(leaves, grad, strict=True) if g is not None and g.any()})
    assert_close(*grads, TOLERANCE[torch.float32])


@pytest.mark.parametrize("cut", [1, 16, 40, 69])
def test_pieces_with_carried_state_equal_the_whole(backend, device, cut):
    case = Case(B=2, L=70, D=20, N=16)
    inputs = make_inputs(case, torch.float32, device)

    def in_pieces(**tensors):
        tensors = {k: v.requires_grad_() for k, v in tensors.items()}
        head = {k: v[:, :cut] if k in PER_STEP else v for k, v in tensors.items()}
        tail = {k: v[:, cut:] if k in PER_STEP else v for k, v in tensors.items()}
        y0, h = selective_scan(**head, **options(case), backend=backend)
        y1, h = selective_scan(**tail | {"h0": h}, **options(case), backend=backend)
        y = torch.cat([y0, y1], dim=1)
        weights = [cotangent("y", y, 0), cotangent("last", h, 0)]
        grads = torch.autograd.grad([y, h], list(tensors.values()), weights)
        return {"y": y, "last": h} | {f"d {k}": g for k, g in zip(tensors, grads, strict=True)}

    assert_close(in_pieces(**inputs), run(inputs, case, backend), TOLERANCE[torch.float32])


def test_single_steps_equal_the_scan(backend, device):
    case = Case(B=3, L=37, D=20, N=16, z=False, bias=False, softplus=False, every=1)
    inputs = make_inputs(case, torch.float32, device)
    y, last, states = selective_scan(**inputs, **options(case), backend=backend)
    h = inputs["h0"]
    for t in range(case.L):
        at_t = {k: inputs[k][:, t] for k in ("x", "dt", "Bmat", "Cmat")}
        y_t, h = scan_step(**at_t, A=inputs["A"], Dskip=inputs["Dskip"], h=h)
        assert relative_rms(y[:, t], y_t) < TOLERANCE[torch.float32]
        assert relative_rms(states[:, t], h) < TOLERANCE[torch.float32]
    assert torch.equal(last, states[:, -1])


def test_masked_steps_equal_dropped_steps(backend, device):
    case = Case(B=2, L=50, D=20, N=16, softplus=False, bias=False, z=False)
    inputs = make_inputs(case, torch.float32, device)
    keep = torch.rand(case.L, generator=torch.Generator().manual_seed(3)) < 0.6
    inputs["dt"][:, ~keep] = 0.0
    dropped = {k: v[:, keep] if k in PER_STEP and v is not None else v for k, v in inputs.items()}
    y, last = selective_scan(**inputs, **options(case), backend=backend)
    want, want_last = selective_scan(**dropped, **options(case), backend=backend)
    if backend == "mamba_ssm":  # sums in groups that depend on the length: equal to float32 rounding
        torch.testing.assert_close((last, y[:, keep]), (want_last, want), rtol=1e-5, atol=1e-5)
        return
    assert torch.equal(last, want_last)  # dt = 0 is an exact no-op on the state
    assert torch.equal(y[:, keep], want)


def test_extreme_inputs_give_no_nan(backend, device):
    case = Case(B=1, L=25_600, D=3, N=2)
    inputs = make_inputs(case, torch.float32, device)
    g = torch.Generator().manual_seed(5)
    inputs["dt"] = (10 ** torch.empty(1, case.L, 3).uniform_(-6, 4, generator=g)).to(device)
    inputs["A"] = -torch.tensor([[1e3, 1.0], [1e-3, 30.0], [1e3, 1e-6]], device=device)
    for name, v in run(inputs, case, backend).items():
        assert torch.isfinite(v).all(), name


def test_long_sequences_against_the_reference(backend, device):
    assert_matches_reference(Case(B=1, L=1500, D=8, N=8, every=500), backend, device)


def test_inputs_are_left_alone(backend, device):
    case = Case(B=2, L=20, D=18, N=5, every=6)
    inputs = make_inputs(case, torch.float32, device)
    before = {k: v.clone() for k, v in inputs.items()}
    run(inputs, case, backend)
    assert all(torch.equal(v.detach(), before[k]) for k, v in inputs.items())


def test_double_backward_is_a_clear_error(backend, device):
    if backend == "mamba_ssm":
        pytest.skip("the official kernel's gradients carry no graph: torch says so in its own words")
    inputs = {k: v.requires_grad_() for k, v in make_inputs(Case(1, 4, 3, 2), torch.float32, device).items()}
    y = selective_scan(**inputs, dt_softplus=True, backend=backend)
    (dx,) = torch.autograd.grad(y.square().sum(), inputs["x"], create_graph=True)
    with pytest.raises(RuntimeError, match=r"second derivative|once_differentiable|no autograd formula"):
        torch.autograd.grad(dx.sum(), inputs["dt"])


def test_autocast_does_not_lower_the_precision_of_the_state(backend, device):
    case = Case(B=2, L=30, D=18, N=5)
    inputs = make_inputs(case, torch.float32, device)
    with torch.autocast(device, torch.bfloat16):
        got = run(inputs, case, backend)
    assert all(torch.equal(got[k], v) for k, v in run(inputs, case, backend).items() if not k.startswith("d "))
    assert_close(got, run(inputs, case, backend), TOLERANCE[torch.float32])


def test_float64_is_a_clear_error(backend, device):
    with pytest.raises(ValueError, match="float64"):
        selective_scan(**make_inputs(Case(1, 2, 3, 4), torch.float64, device), backend=backend)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_empty_axis_is_a_clear_error(backend, device, axis):
    inputs = make_inputs(Case(2, 3, 4, 2).plain(), torch.float32, device)
    inputs["x"] = inputs["x"].narrow(axis, 0, 0)
    with pytest.raises(ValueError, match=r"x must be \(B, L, D\) with no empty axis"):
        selective_scan(**inputs, backend=backend)

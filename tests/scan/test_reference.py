"""The oracle itself: the loop against closed forms, gradients against finite differences."""

import pytest
import torch
import torch.nn.functional as F

from lgmamba.scan import scan_step, selective_scan
from tests.scan.cases import Case, make_inputs, options


def closed_form(inputs):
    """y from the sum over all earlier inputs: h_t = exp(A S_t) h0 + sum_s exp(A (S_t - S_s)) dt_s B_s x_s."""
    x, A, Bmat, Cmat = (inputs[k] for k in ("x", "A", "Bmat", "Cmat"))
    dt = F.softplus(inputs["dt"] + inputs["dt_bias"])
    S = dt.cumsum(1)
    L = x.shape[1]
    earlier = torch.tril(torch.ones(L, L, dtype=torch.bool))[None, :, :, None, None]
    exponent = (S[:, :, None] - S[:, None, :])[..., None] * A  # (B, L, L, D, N)
    decay = torch.where(earlier, exponent, -torch.inf).exp()
    h = torch.einsum("btsdn,bsd,bsn->btdn", decay, dt * x, Bmat)
    h = h + (S[..., None] * A).exp() * inputs["h0"][:, None]
    y = torch.einsum("btdn,btn->btd", h, Cmat) + inputs["Dskip"] * x
    return y * F.silu(inputs["z"]), h


def test_loop_equals_closed_form_sum():
    case = Case(B=2, L=23, D=3, N=5, every=1)
    inputs = make_inputs(case)
    y, last, states = selective_scan(**inputs, **options(case), backend="reference")
    want, h = closed_form(inputs)
    torch.testing.assert_close(y, want, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(states, h, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(last, h[:, -1], rtol=1e-10, atol=1e-12)


def test_constant_input_is_a_geometric_series():
    a, dt, b, c, x, steps = -0.7, 0.3, 1.5, -2.0, 0.4, 9
    ones = torch.ones(1, steps, 1, dtype=torch.float64)
    y = selective_scan(
        x * ones,
        dt * ones,
        torch.tensor([[a]], dtype=torch.float64),
        b * ones,
        c * ones,
        torch.zeros(1, dtype=torch.float64),
        backend="reference",
    )
    r = torch.exp(torch.tensor(a * dt, dtype=torch.float64))
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    want = c * dt * b * x * (1 - r**t) / (1 - r)
    torch.testing.assert_close(y.flatten(), want, rtol=1e-12, atol=0)


def test_gradients_equal_finite_differences():
    case = Case(B=2, L=4, D=2, N=3, every=2)
    inputs = {k: v.requires_grad_() for k, v in make_inputs(case).items()}

    def call(*tensors):
        return selective_scan(**dict(zip(inputs, tensors, strict=True)), **options(case), backend="reference")

    assert torch.autograd.gradcheck(call, tuple(inputs.values()))


@pytest.mark.parametrize("prefix", [1, 7, 12])
def test_outputs_depend_on_the_past_only(prefix):
    case = Case(B=2, L=13, D=3, N=4, last=False)
    inputs = make_inputs(case)
    whole = selective_scan(**inputs, **options(case), backend="reference")
    per_step = {"x", "dt", "Bmat", "Cmat", "z"}
    cut = {k: v[:, :prefix] if k in per_step else v for k, v in inputs.items()}
    torch.testing.assert_close(selective_scan(**cut, **options(case), backend="reference"), whole[:, :prefix])


def test_scan_step_is_one_step_of_the_loop_and_leaves_its_state_alone():
    case = Case(B=2, L=1, D=3, N=4).plain()
    inputs = make_inputs(case)
    h = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = h.clone()
    at0 = {k: inputs[k][:, 0] for k in ("x", "dt", "Bmat", "Cmat")}
    y, new = scan_step(**at0, A=inputs["A"], Dskip=inputs["Dskip"], h=h)
    want, last = selective_scan(**inputs | {"h0": h}, return_last_state=True, backend="reference")
    torch.testing.assert_close(y, want[:, 0])
    torch.testing.assert_close(new, last)
    assert torch.equal(h, before)


def test_float64_goes_to_the_reference_under_auto():
    case = Case(B=1, L=3, D=2, N=2)
    y, last = selective_scan(**make_inputs(case), **options(case))
    assert y.dtype == last.dtype == torch.float64
    assert torch.equal(y, selective_scan(**make_inputs(case), **options(case), backend="reference")[0])

"""The fused RMS norm against torch's in float64: values and gradients, alone and for runs side by side."""

import pytest
import torch
import torch.nn.functional as F

from lgmamba.scan import cuda_norm
from tests.scan.cases import relative_rms
from tests.scan.conftest import poisoned_memory  # noqa: F401  (a fixture that acts by being here)

REASON = cuda_norm.unavailable("cuda")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=f"CUDA norm: {REASON}")]

TOLERANCE = 2e-6
"""Relative RMS error in float32."""


def values_and_gradients(f, x, weight, dy):
    leaves = [v.detach().requires_grad_() for v in (x, weight)]
    y = f(*leaves)
    return (y.detach(), *torch.autograd.grad(y, leaves, dy.to(y.dtype)))


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).cuda()


def assert_close(got, want):
    errors = [relative_rms(a, b) for a, b in zip(got, want, strict=True)]
    assert all(e < TOLERANCE for e in errors), errors


@pytest.mark.parametrize("rows", [1, 3, 64, 1000, 70_001])
@pytest.mark.parametrize("D", [5, 16, 32, 33, 48, 64, 130, 256, 1000, 4096], ids="D{}".format)
def test_values_and_gradients_are_torchs(D, rows):
    if D * rows > 20_000_000:
        rows = 20_000_000 // D
    x, weight, dy = drawn(rows, D), drawn(D), drawn(rows, D)
    got = values_and_gradients(lambda x, w: cuda_norm.rms_norm(x, w, 1e-5), x, weight, dy)
    want = values_and_gradients(lambda x, w: F.rms_norm(x, (D,), w, 1e-5), x.double(), weight.double(), dy)
    assert_close(got, want)


@pytest.mark.parametrize("D", [7, 16, 256], ids="D{}".format)
def test_runs_side_by_side_get_what_each_gets_alone(D):
    x, weight, dy = drawn(5, 3, 50, D), drawn(5, D), drawn(5, 3, 50, D)
    got = values_and_gradients(torch.vmap(lambda x, w: cuda_norm.rms_norm(x, w, 1e-5)), x, weight, dy)
    for r in range(5):
        alone = values_and_gradients(lambda x, w: cuda_norm.rms_norm(x, w, 1e-5), x[r], weight[r], dy[r])
        assert torch.equal(got[0][r], alone[0]) and torch.equal(got[1][r], alone[1])
        assert relative_rms(got[2][r], alone[2]) < TOLERANCE


def test_views_and_offsets_that_no_wide_access_fits():
    x = drawn(9, 6, 17)[:, 1:, 1:].requires_grad_()  # rows of 16 that start at odd addresses
    weight = drawn(17)[1:]
    want = F.rms_norm(x.double(), (16,), weight.double(), 1e-5)
    assert relative_rms(cuda_norm.rms_norm(x, weight, 1e-5), want) < TOLERANCE


def test_what_it_does_not_cover_goes_to_torch():
    assert not cuda_norm.runs(drawn(2, 4).double(), drawn(4).double())
    assert not cuda_norm.runs(drawn(0, 4), drawn(4))
    assert not cuda_norm.runs(torch.ones(2, 4), torch.ones(4))


def test_it_repeats_bit_for_bit():
    x, weight, dy = drawn(50_000, 16), drawn(16), drawn(50_000, 16)
    first, second = (values_and_gradients(lambda x, w: cuda_norm.rms_norm(x, w, 1e-5), x, weight, dy) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

"""Parallel forms of linear recurrences against their definitions, over several chunks, from a state, and in single precision."""

import pytest
import torch

from lgmamba.mixers import scans
from tests.mixers.recurrences import RECURRENCES, B, L, drawn
from tests.model.models import EXACT

SCANS = pytest.mark.parametrize("scan", RECURRENCES)


def in_chunks(scan: str, d: dict[str, torch.Tensor], h0: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    return getattr(scans, scan)(*RECURRENCES[scan].given(d), h0)


@SCANS
@pytest.mark.parametrize("length", [1, 16, 33, L])
@pytest.mark.parametrize("started", [False, True])
def test_a_scan_in_chunks_is_its_recurrence(scan, length, started):
    d = drawn(length)
    h0 = d["h0"] if started else None
    torch.testing.assert_close(in_chunks(scan, d, h0), RECURRENCES[scan](d, h0), **EXACT)


@SCANS
def test_gradients_go_through_chunks_as_through_steps(scan):
    d = {name: v.requires_grad_() for name, v in drawn().items()}
    grads = []
    for y, S in (RECURRENCES[scan](d, d["h0"]), in_chunks(scan, d, d["h0"])):
        loss = y.square().sum() + S.sin().sum()
        grads.append(torch.autograd.grad(loss, list(d.values()), allow_unused=True))
    for want, got in zip(*grads, strict=True):
        assert (want is None) == (got is None)
        if want is not None:
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@SCANS
def test_long_sequences_in_single_precision_stay_by_those_in_double(scan):
    """With keys that come again and decays that hardly forget: where sums and solutions could drift."""
    d = drawn(1600)
    d["k"] = d["k"][:, :7].repeat(1, 229, 1, 1)[:, :1600]
    d |= {"log_a": 0.01 * d["log_a"], "log_keys": 0.01 * d["log_keys"]}
    want, _ = RECURRENCES[scan](d, d["h0"])
    got, _ = in_chunks(scan, {name: v.float() for name, v in d.items()}, d["h0"].float())
    assert got.dtype == torch.float32
    assert (got.double() - want).norm() / want.norm() < 1e-5


def test_the_strongest_decay_of_a_key_stays_in_single_precision():
    d = drawn()
    d["log_keys"] = torch.full_like(d["log_keys"], -scans.MOST_DECAY)
    want, _ = RECURRENCES["gla_scan"](d, d["h0"])
    got, _ = in_chunks("gla_scan", {name: v.float() for name, v in d.items()}, d["h0"].float())
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("length", [1, 2, 3, 31, 64])
def test_a_diagonal_scan_is_its_recurrence(length, dtype):
    g = torch.Generator().manual_seed(length)
    b, h0 = torch.randn(B, length, 3, generator=g, dtype=dtype), torch.randn(B, 3, generator=g, dtype=dtype)
    a = torch.randn(B, length, 3, generator=g, dtype=dtype)
    a = a / (1 + a.abs())
    for start in (None, h0):
        h, want = torch.zeros_like(h0) if start is None else start, []
        for t in range(length):
            h = a[:, t] * h + b[:, t]
            want.append(h)
        torch.testing.assert_close(scans.diag_scan(a, b, start), torch.stack(want, 1), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_a_convolution_reads_no_later_step(dtype):
    g = torch.Generator().manual_seed(0)
    x, kernel = torch.randn(B, 9, 3, generator=g, dtype=dtype), torch.randn(9, 3, generator=g, dtype=dtype)
    want = torch.stack([sum(kernel[t - j] * x[:, j] for j in range(t + 1)) for t in range(9)], dim=1)
    torch.testing.assert_close(scans.convolve(x, kernel), want, **EXACT)


def test_states_are_computed_widely_under_autocast():
    d = {name: v.float() for name, v in drawn().items()}
    with torch.autocast("cpu", torch.bfloat16):
        got = scans.ssd_scan(d["log_a"], d["k"], d["q"], d["v"], d["h0"])
    want = scans.ssd_scan(d["log_a"], d["k"], d["q"], d["v"], d["h0"])
    assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))

"""The sliding window against a direct scan of the last r steps, and against the difference of two states."""

import pytest
import torch

from lgmamba.mixers.mamba.mixer import MambaCall
from lgmamba.remedies.window.remedy import sliding_window
from lgmamba.scan import selective_scan
from tests.model.models import EXACT, exact, fresh, moved, sequence


def random_call(L: int, dtype=torch.float64, slow: float = 1.0) -> MambaCall:
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    A = -slow * normal(3, 4).exp()
    return MambaCall(
        layer=0,
        t0=0,
        target_length=None,
        x=normal(2, L, 3),
        z=normal(2, L, 3),
        dt=normal(2, L, 3).exp(),
        A=A,
        Bmat=normal(2, L, 4),
        Cmat=normal(2, L, 4),
        h0=None,
    )


def ordinary(c: MambaCall):
    skip = torch.linspace(-1, 1, c.A.shape[0], dtype=c.x.dtype)
    return *selective_scan(c.x, c.dt, c.A, c.Bmat, c.Cmat, skip, c.z, h0=c.h0, return_last_state=True), ()


def windowed(call: MambaCall, first: int, t: int):
    """Output and state at 0-based step t, of steps first .. t alone."""
    part = {name: getattr(call, name)[:, first : t + 1] for name in ("x", "z", "dt", "Bmat", "Cmat")}
    y, h, _ = ordinary(MambaCall(layer=0, t0=0, target_length=None, A=call.A, h0=None, **part))
    return y[:, -1], h


@pytest.mark.parametrize("r", [1, 2, 5, 7, 22, 23])
def test_the_exact_window_is_a_scan_of_the_last_r_steps(r):
    call = random_call(23)
    y, h, *_ = sliding_window(r)(call).scan(call, ordinary)
    for t in range(23):
        want, end = windowed(call, max(0, t + 1 - r), t)
        torch.testing.assert_close(y[:, t], want, **EXACT)
    torch.testing.assert_close(h, end, **EXACT)


@pytest.mark.parametrize("r", [2, 5, 8])
def test_the_overlapping_window_is_between_half_of_r_and_r(r):
    call, hop = random_call(23), (r + 1) // 2
    y, h, *_ = sliding_window(r, "overlap")(call).scan(call, ordinary)
    for t in range(23):
        first = max(0, t // hop - 1) * hop
        assert t + 1 <= r or r / 2 <= t + 1 - first <= 2 * hop
        want, end = windowed(call, first, t)
        torch.testing.assert_close(y[:, t], want, **EXACT)
    torch.testing.assert_close(h, end, **EXACT)


def test_the_window_is_the_difference_of_two_states():
    call, r = random_call(23), 6
    _, h, *_ = sliding_window(r)(call).scan(call, ordinary)
    (_, now), (_, before) = windowed(call, 0, 22), windowed(call, 0, 16)
    decay = torch.exp(call.dt[:, 17:].sum(1)[..., None] * call.A)
    torch.testing.assert_close(h, now - decay * before, **EXACT)


def test_nothing_cancels_in_float32():
    """Slow modes and a long past: the difference of states would lose three digits, the window loses none."""
    exactly, call = random_call(2000, slow=1e-5), random_call(2000, torch.float32, slow=1e-5)
    y, h, *_ = sliding_window(8)(call).scan(call, ordinary)
    want, end, *_ = sliding_window(8)(exactly).scan(exactly, ordinary)
    torch.testing.assert_close(h.double(), end, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(y.double(), want, rtol=1e-5, atol=1e-5)


def test_up_to_r_steps_are_read_as_ever_bit_for_bit():
    model = moved(fresh())
    patches, cells = sequence(model)
    want, _ = model.encode(model.embed(patches[:, :8], cells[:, :8]), hook=lambda call: call)
    for form in ("exact", "overlap"):
        got, _ = model.encode(model.embed(patches[:, :8], cells[:, :8]), hook=sliding_window(8, form))
        assert torch.equal(got, want)


def test_a_piece_after_one_without_the_window_is_refused():
    model = exact()
    patches, cells = sequence(model)
    _, state = model.encode(model.embed(patches[:, :6], cells[:, :6]))
    with pytest.raises(ValueError, match="the 6 steps before this piece were read without the window"):
        model.encode(model.embed(patches[:, 6:], cells[:, 6:]), state, hook=sliding_window(4))


def test_gradients_flow_through_the_window():
    model = exact()
    patches, cells = sequence(model)
    patches.requires_grad_(True)
    out, _ = model.encode(model.embed(patches, cells), hook=sliding_window(3))
    out[:, -1].sum().backward()
    assert torch.isfinite(patches.grad).all()
    reach = patches.grad.abs().sum((0, 2)) > 0
    assert reach.tolist() == [False] * 2 + [True] * 11  # two layers, each 2 steps back by window and 3 by convolution

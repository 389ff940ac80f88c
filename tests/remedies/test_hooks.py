"""Scan-level remedies: identities, exact relations, and the same result whole, in pieces and step by step."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from lgmamba.mixers.mamba.mixer import MambaCall
from lgmamba.remedies.base import beyond, chain, constant_schedule, cuts_every, follow_length, power_schedule
from lgmamba.remedies.controls import freeze
from lgmamba.remedies.normalise_state.remedy import StateNormRecorder, normalise_state
from lgmamba.remedies.retain_insert.remedy import horizon_retention, retain_and_insert
from lgmamba.remedies.spectrum.remedy import clip_spectrum, scale_spectrum
from lgmamba.remedies.step_size.remedy import norm_step_sizes, scale_step_sizes
from lgmamba.remedies.window.remedy import sliding_window
from lgmamba.scan import selective_scan
from tests.model.models import EXACT, L0, exact, sequence
from tests.model.passes import CUTS, assert_same_state, in_pieces

ONES, INF = [1.0, 1.0], [float("inf")] * 2
IDENTITIES = {
    "step sizes by 1": scale_step_sizes(per_layer=ONES),
    "constant schedule at L0": scale_step_sizes(constant_schedule(L0, L0, 1.0)),
    "power 0": scale_step_sizes(power_schedule(L0, 0.0)),
    "mult by 1": scale_spectrum("mult", ONES),
    "power of 1": scale_spectrum("pow", ONES),
    "mult by 1, mode by mode": scale_spectrum("mult", [torch.ones(4)] * 2),
    "whole band": clip_spectrum(0.0, 1.0),
    "beyond the end": beyond(13, scale_spectrum("mult", [0.5, 0.5])),
    "follows a length not reached": follow_length(13, 2, lambda T: scale_spectrum("mult", [0.5, 0.5])),
    "retain and insert all": retain_and_insert(1.0, 1.0),
    "no bound": normalise_state(INF),
    "no bound in any channel": normalise_state([torch.full((24,), float("inf"))] * 2),
    "states recorded": StateNormRecorder(),
    "a window of everything": sliding_window(13),
    "overlapping windows of everything": sliding_window(13, "overlap"),
    "retention after the end": retain_and_insert(0.5, 0.5, after=13),
    "nothing chained": chain(),
}
STREAM = {
    "power schedule": scale_step_sizes(power_schedule(L0, 1.0)),
    "steep": scale_step_sizes(power_schedule(L0, 1.5), per_layer=[0.9, 1.2]),
    "freeze": freeze(L0),
    "mult": scale_spectrum("mult", [0.5, 2.0]),
    "pow": scale_spectrum("pow", [0.5, 2.0]),
    "clip": clip_spectrum(0.1, 0.6),
    "clip beyond": beyond(L0, clip_spectrum(0.1, 0.6)),
    "mode by mode": scale_spectrum("pow", [torch.tensor([0.3, 0.7, 1.0, 1.4]), torch.ones(4)]),
    "spectrum by t": follow_length(L0, 3, lambda T: scale_spectrum("mult", [(L0 / T) ** 2, T / L0])),
    "spectrum by t, then retention": chain(
        follow_length(L0, 2, lambda T: scale_spectrum("mult", [(L0 / T) ** 2, T / L0])),
        retain_and_insert(0.9, after=L0),
    ),
    "a schedule a layer": scale_step_sizes([power_schedule(L0, 0.3), power_schedule(L0, 2.0)]),
    "norm by calibration": norm_step_sizes([torch.ones(24), torch.ones(24)], [torch.full((24,), 3.0), torch.ones(24)]),
    "retain and insert": retain_and_insert(0.93, 0.7),
    "retain in pieces": retain_and_insert(0.001, after=3),
    "normalise": normalise_state([0.3, 0.4]),
    "normalise now and then": normalise_state([0.3, 0.4], every=3, after=4),
    "normalise channels": normalise_state([torch.linspace(0.01, 0.2, 24)] * 2, every=2),
    "window": sliding_window(5),
    "window of 1": sliding_window(1),
    "overlap": sliding_window(4, "overlap"),
    "overlap, odd": sliding_window(5, "overlap"),
    "overlap of 1": sliding_window(1, "overlap"),
    "norm, then retention": chain(normalise_state([0.3, 0.4], every=2), retain_and_insert(0.9, after=3)),
    "two": chain(scale_step_sizes(power_schedule(L0, 1.0)), retain_and_insert(0.9)),
}


@cache
def whole(name: str):
    """Under a hook of a stream, in one pass: outputs and the state at the end. What the other tests of it compare with."""
    model = exact()
    return model.encode(model.embed(*sequence(model)), hook=STREAM[name])


@pytest.mark.parametrize("hook", IDENTITIES.values(), ids=IDENTITIES)
def test_neutral_settings_are_the_identity(hook):
    model = exact()
    patches, cells = sequence(model)
    want, end = model.encode(model.embed(patches, cells))
    got, end_with = model.encode(model.embed(patches, cells), hook=hook)
    torch.testing.assert_close(got, want, **EXACT)
    assert_same_state(end_with, end, EXACT)


@pytest.mark.parametrize("name", ["power schedule", "freeze", "a schedule a layer", "clip beyond", "spectrum by t"])
def test_up_to_the_training_length_nothing_changes(name):
    model = exact()
    patches, cells = sequence(model)
    want, _ = model.encode(model.embed(patches, cells))
    got, _ = model.encode(model.embed(patches, cells), hook=STREAM[name])
    torch.testing.assert_close(got[:, :L0], want[:, :L0], **EXACT)
    assert not torch.allclose(got[:, L0:], want[:, L0:], rtol=1e-3)


@pytest.mark.parametrize("sizes", CUTS[1:], ids=str)
@pytest.mark.parametrize("name", STREAM)
def test_pieces_and_single_steps_equal_the_whole(name, sizes):
    model = exact()
    want, end = whole(name)
    got, end_pieces = in_pieces(model, *sequence(model), None, sizes, STREAM[name])
    torch.testing.assert_close(got, want, **EXACT)
    assert_same_state(end_pieces, end, EXACT)


@pytest.mark.parametrize("name", STREAM)
def test_what_comes_later_changes_nothing(name):
    model = exact()
    patches, cells = sequence(model)
    want, _ = whole(name)
    changed = patches.clone()
    changed[:, 10:] += 1.0
    got, _ = model.encode(model.embed(changed, cells), hook=STREAM[name])
    assert torch.equal(got[:, :10], want[:, :10])


def random_call(L: int = 7, D: int = 3, N: int = 4) -> MambaCall:
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    A = -normal(D, N).exp()
    return MambaCall(
        layer=0,
        t0=0,
        target_length=None,
        x=normal(2, L, D),
        z=normal(2, L, D),
        dt=normal(2, L, D).exp(),
        A=A,
        Bmat=normal(2, L, N),
        Cmat=normal(2, L, N),
        h0=None,
    )


def ssm(call: MambaCall) -> tuple[torch.Tensor, torch.Tensor]:
    """The scan without skip and gate, and the end state."""

    def ordinary(c: MambaCall) -> tuple[torch.Tensor, torch.Tensor, tuple]:
        zeros = torch.zeros(c.A.shape[0], dtype=torch.float64)
        return *selective_scan(c.x, c.dt, c.A, c.Bmat, c.Cmat, zeros, h0=c.h0, return_last_state=True), ()

    y, h = (call.scan(call, ordinary) if call.scan else ordinary(call))[:2]
    return y, call.post_state(h) if call.post_state else h


def test_scaled_steps_are_a_scaled_spectrum_times_an_output_gain():
    call, s = random_call(), 0.3
    steps, _ = ssm(scale_step_sizes(per_layer=[s])(call))
    spectrum, _ = ssm(scale_spectrum("mult", [s])(call))
    torch.testing.assert_close(steps, s * spectrum, **EXACT)


def test_a_power_of_the_spectrum_leaves_modes_of_size_1():
    call = random_call()
    A = call.A.clone()
    A[0, 0], A[1, 1] = -1.0, -4.0
    changed = scale_spectrum("pow", [0.5])(replace(call, A=A)).A
    assert changed[0, 0] == -1.0
    assert changed[1, 1] == -2.0


def test_cuts_are_counted_from_where_they_begin():
    assert cuts_every(3)(0, 10) == {3, 6, 9}
    assert cuts_every(3)(3, 6) == set()
    assert cuts_every(3, after=4)(0, 10) == {4, 7}
    assert cuts_every(3, after=4)(4, 11) == {7, 10}
    assert cuts_every(1)(5, 8) == {6, 7}


def test_factors_that_follow_t_are_those_of_the_middle_of_each_block():
    call, asked = random_call(L=11), []

    def make(T: float):
        asked.append(T)
        return scale_spectrum("mult", [T])

    y, _ = ssm(follow_length(4, 3, make)(call))
    assert asked == [5.5, 8.5, 11.5]
    h = torch.zeros(2, 3, 4, dtype=torch.float64)
    for t in range(11):
        s = 1.0 if t < 4 else asked[(t - 4) // 3]
        dt = call.dt[:, t, :, None]
        h = torch.exp(dt * s * call.A) * h + dt * call.Bmat[:, t, None] * call.x[:, t, :, None]
        torch.testing.assert_close(y[:, t], (h * call.Cmat[:, t, None]).sum(-1), **EXACT)


def test_normed_step_sizes_sum_up_to_their_budget():
    call = random_call()
    budget = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    dt = norm_step_sizes([budget])(call).dt
    torch.testing.assert_close(dt.sum(1), budget.expand(2, 3), **EXACT)
    torch.testing.assert_close(dt[:, 1] / dt[:, 0], call.dt[:, 1] / call.dt[:, 0], **EXACT)
    with pytest.raises(ValueError, match="in one piece; this piece starts after step 3"):
        norm_step_sizes([budget])(replace(call, t0=3))


def test_a_clipped_spectrum_lies_in_its_band():
    call = random_call()
    low, high = torch.quantile(-call.A.flatten(), torch.tensor([0.25, 0.75], dtype=torch.float64))
    clipped = -clip_spectrum(0.25, 0.75)(call).A
    assert clipped.min() == low
    assert clipped.max() == high
    inside = (-call.A >= low) & (-call.A <= high)
    assert torch.equal(clipped[inside], -call.A[inside])


def test_retention_and_insertion_against_a_loop():
    call, retention, insertion = random_call(), 0.8, 0.6
    y, last = ssm(retain_and_insert(retention, insertion)(call))
    h = torch.zeros(2, 3, 4, dtype=torch.float64)
    for t in range(call.dt.shape[1]):
        dt = call.dt[:, t, :, None]
        write = dt * call.Bmat[:, t, None] * call.x[:, t, :, None]
        h = retention * torch.exp(dt * call.A) * h + insertion * write
        torch.testing.assert_close(y[:, t], (h * call.Cmat[:, t, None]).sum(-1), **EXACT)
    torch.testing.assert_close(last, h, **EXACT)


def test_retention_begins_after_its_step_and_never_overflows():
    call, retention, after = random_call(L=400), 0.5, 5  # gains of 2^400 if they were counted through
    y, last = ssm(retain_and_insert(retention, after=after)(call))
    h = torch.zeros(2, 3, 4, dtype=torch.float64)
    for t in range(400):
        dt = call.dt[:, t, :, None]
        m = retention if t >= after else 1.0
        h = m * torch.exp(dt * call.A) * h + dt * call.Bmat[:, t, None] * call.x[:, t, :, None]
        torch.testing.assert_close(y[:, t], (h * call.Cmat[:, t, None]).sum(-1), **EXACT)
    torch.testing.assert_close(last, h, **EXACT)


def test_horizons_are_counted_in_training_lengths():
    assert horizon_retention(16, 1.25) == pytest.approx(1 - 1 / 20)
    with pytest.raises(ValueError, match=r"got c=0.1, L0=8"):
        horizon_retention(8, 0.1)


@pytest.mark.parametrize("groups", ["layer", "channel"])
@pytest.mark.parametrize("every", [1, 3])
def test_states_are_clipped_where_they_are_said_to_be(groups, every):
    call, after = random_call(L=20), 4
    recorder = StateNormRecorder(groups)
    ssm(recorder(call))
    (p,) = (0.3 * v for v in recorder.thresholds(0.5))
    y, last = ssm(normalise_state([p], every, after)(call))
    h, clipped = torch.zeros(2, 3, 4, dtype=torch.float64), 0
    for t in range(20):
        dt = call.dt[:, t, :, None]
        h = torch.exp(dt * call.A) * h + dt * call.Bmat[:, t, None] * call.x[:, t, :, None]
        torch.testing.assert_close(y[:, t], (h * call.Cmat[:, t, None]).sum(-1), **EXACT)  # a step reads, then clips
        if (t + 1) % every == 0 and t + 1 > after:
            norm = h.norm(dim=2, keepdim=True) if groups == "channel" else h.flatten(1).norm(dim=1)[:, None, None]
            bound = p[:, None] if groups == "channel" else p
            clipped += int((norm > bound).sum())
            h = h * (bound / norm).clamp(max=1.0)
    torch.testing.assert_close(last, h, **EXACT)
    assert clipped > 0
    if every == 1:
        norms = last.norm(dim=2) if groups == "channel" else last.flatten(1).norm(dim=1)
        assert (norms <= p * (1 + 1e-12)).all()


@pytest.mark.parametrize("sizes", CUTS, ids=str)
def test_thresholds_are_quantiles_of_the_largest_norms(sizes):
    model = exact()
    patches, cells = sequence(model)
    norms: dict[int, list] = {0: [], 1: []}
    state = None
    for t in range(13):
        _, state = model.encode(model.embed(patches[:, t : t + 1], cells[:, t : t + 1]), state)
        for layer in (0, 1):
            norms[layer].append(state.layers[layer].memory)
    by_layer, by_channel = StateNormRecorder("layer"), StateNormRecorder("channel")
    for recorder in (by_layer, by_channel):
        in_pieces(model, patches, cells, None, sizes, recorder)
    for layer in (0, 1):
        h = torch.stack(norms[layer])  # (T, B, D, N)
        whole, channel = h.flatten(2).norm(dim=2).amax(0), h.norm(dim=3).amax(0)
        assert by_layer.thresholds(0.99)[layer] == pytest.approx(torch.quantile(whole, 0.99).item(), rel=1e-10)
        torch.testing.assert_close(by_channel.thresholds(0.5)[layer], channel.median(0).values, **EXACT)


def test_two_plans_in_pieces_join_their_cuts_and_a_second_recurrence_is_refused():
    call = random_call(L=20)
    both, _ = ssm(chain(retain_and_insert(0.9, after=7), normalise_state([0.5], every=3))(call))
    h, y = torch.zeros(2, 3, 4, dtype=torch.float64), []
    for t in range(20):
        dt = call.dt[:, t, :, None]
        m = 0.9 if t >= 7 else 1.0
        h = m * torch.exp(dt * call.A) * h + dt * call.Bmat[:, t, None] * call.x[:, t, :, None]
        y.append((h * call.Cmat[:, t, None]).sum(-1))
        if (t + 1) % 3 == 0:
            h = h * (0.5 / h.flatten(1).norm(dim=1)).clamp(max=1.0)[:, None, None]
    torch.testing.assert_close(both, torch.stack(y, 1), **EXACT)
    for hooks in ((sliding_window(4), retain_and_insert(0.9)), (retain_and_insert(0.9), sliding_window(4))):
        with pytest.raises(ValueError, match="two remedies of one chain replace the scan"):
            chain(*hooks)(call)


def test_freeze_keeps_the_state_of_the_training_length():
    model = exact()
    patches, cells = sequence(model)
    _, at_L0 = model.encode(model.embed(patches[:, :L0], cells[:, :L0]))
    _, later = model.encode(model.embed(patches, cells), hook=freeze(L0))
    for frozen, before in zip(later.layers, at_L0.layers, strict=True):
        torch.testing.assert_close(frozen.memory, before.memory, **EXACT)


@pytest.mark.parametrize(
    "make",
    [
        lambda: scale_spectrum("multi", ONES),
        lambda: scale_spectrum("mult", [1.0, 0.0]),
        lambda: scale_spectrum("mult", [torch.ones(4), torch.tensor([1.0, -1.0, 1.0, 1.0])]),
        lambda: clip_spectrum(0.5, 0.5),
        lambda: retain_and_insert(1.1),
        lambda: retain_and_insert(0.9, 0.0),
        lambda: sliding_window(0),
        lambda: sliding_window(4, "half"),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"got|expected"):
        make()

"""Scan-level remedies: identities, exact relations, and the same result whole, in pieces and step by step."""

from dataclasses import replace

import pytest
import torch

from lgmamba.model import ScanCall
from lgmamba.remedies.base import chain, constant_schedule, power_schedule
from lgmamba.remedies.spectrum import clip_spectrum, scale_spectrum
from lgmamba.remedies.state import normalise_state, retain_and_insert
from lgmamba.remedies.step_size import freeze, scale_step_sizes
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
    "whole band": clip_spectrum(0.0, 1.0),
    "retain and insert all": retain_and_insert(1.0, 1.0),
    "no bound": normalise_state(INF),
    "nothing chained": chain(),
}
STREAM = {
    "power schedule": scale_step_sizes(power_schedule(L0, 1.0)),
    "steep": scale_step_sizes(power_schedule(L0, 1.5), per_layer=[0.9, 1.2]),
    "freeze": freeze(L0),
    "mult": scale_spectrum("mult", [0.5, 2.0]),
    "pow": scale_spectrum("pow", [0.5, 2.0]),
    "clip": clip_spectrum(0.1, 0.6),
    "retain and insert": retain_and_insert(0.93, 0.7),
    "two": chain(scale_step_sizes(power_schedule(L0, 1.0)), retain_and_insert(0.9)),
}


@pytest.mark.parametrize("plan", IDENTITIES.values(), ids=IDENTITIES)
def test_neutral_settings_are_the_identity(plan):
    model = exact()
    patches, cells = sequence(model)
    want, end = model.encode(patches, cells)
    got, end_with = model.encode(patches, cells, plan=plan)
    torch.testing.assert_close(got, want, **EXACT)
    assert_same_state(end_with, end, EXACT)


@pytest.mark.parametrize("name", ["power schedule", "freeze"])
def test_up_to_the_training_length_nothing_changes(name):
    model = exact()
    patches, cells = sequence(model)
    want, _ = model.encode(patches, cells)
    got, _ = model.encode(patches, cells, plan=STREAM[name])
    torch.testing.assert_close(got[:, :L0], want[:, :L0], **EXACT)
    assert not torch.allclose(got[:, L0:], want[:, L0:], rtol=1e-3)


@pytest.mark.parametrize("sizes", CUTS[1:], ids=str)
@pytest.mark.parametrize("plan", STREAM.values(), ids=STREAM)
def test_pieces_and_single_steps_equal_the_whole(plan, sizes):
    model = exact()
    patches, cells = sequence(model)
    want, end = model.encode(patches, cells, plan=plan)
    got, end_pieces = in_pieces(model, patches, cells, None, sizes, plan)
    torch.testing.assert_close(got, want, **EXACT)
    assert_same_state(end_pieces, end, EXACT)


@pytest.mark.parametrize("plan", STREAM.values(), ids=STREAM)
def test_what_comes_later_changes_nothing(plan):
    model = exact()
    patches, cells = sequence(model)
    want, _ = model.encode(patches, cells, plan=plan)
    changed = patches.clone()
    changed[:, 10:] += 1.0
    got, _ = model.encode(changed, cells, plan=plan)
    assert torch.equal(got[:, :10], want[:, :10])


def random_call(L: int = 7, D: int = 3, N: int = 4) -> ScanCall:
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    A = -normal(D, N).exp()
    return ScanCall(
        0, 0, None, normal(2, L, D), normal(2, L, D), normal(2, L, D).exp(), A, normal(2, L, N), normal(2, L, N), None
    )


def ssm(call: ScanCall) -> torch.Tensor:
    """The scan without skip and gate."""
    zeros = torch.zeros(call.A.shape[0], dtype=torch.float64)
    y, h = selective_scan(call.x, call.dt, call.A, call.Bmat, call.Cmat, zeros, h0=call.h0, return_last_state=True)
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


def test_gains_that_would_overflow_are_refused():
    with pytest.raises(ValueError, match="read in pieces of at most 86"):
        retain_and_insert(0.5)(random_call(L=100))


def test_state_norm_is_bounded_and_small_states_are_left_alone():
    call = random_call()
    _, free = ssm(call)
    bound = free.flatten(1).norm(dim=1).mean().item()  # between the two samples
    _, h = ssm(normalise_state([bound])(call))
    norms, was = h.flatten(1).norm(dim=1), free.flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, was.clamp(max=bound), **EXACT)
    assert (norms < was).sum() == 1


def test_freeze_keeps_the_state_of_the_training_length():
    model = exact()
    patches, cells = sequence(model)
    _, at_L0 = model.encode(patches[:, :L0], cells[:, :L0])
    _, later = model.encode(patches, cells, plan=freeze(L0))
    for frozen, before in zip(later.layers, at_L0.layers, strict=True):
        torch.testing.assert_close(frozen.h, before.h, **EXACT)


@pytest.mark.parametrize(
    "make",
    [
        lambda: scale_spectrum("multi", ONES),
        lambda: scale_spectrum("mult", [1.0, 0.0]),
        lambda: clip_spectrum(0.5, 0.5),
        lambda: retain_and_insert(1.1),
        lambda: retain_and_insert(0.9, 0.0),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"got|expected"):
        make()

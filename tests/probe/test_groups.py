"""Interventions on groups of modes, each against a loop over single steps that does what it says."""

from dataclasses import replace

import pytest
import torch

from lgmamba.mixers.mamba.mixer import MambaCall
from lgmamba.probe.dynamics import DecayRecorder, ModeMemory, mode_memory, series
from lgmamba.probe.groups import clamp_inflation, hold_at_L0, size_at_L0
from lgmamba.scan import selective_scan
from tests.model.models import L0, exact, sequence
from tests.model.passes import CUTS, assert_same_state, in_pieces, seen

CLOSE = {"rtol": 1e-9, "atol": 1e-11}
STEPS = CUTS[-1]


@pytest.fixture
def model():
    return exact()


@pytest.fixture
def masks():
    g = torch.Generator().manual_seed(7)
    return [torch.rand(24, 4, generator=g) < 0.5, torch.zeros(24, 4, dtype=torch.bool)]


def read(model, hook, sizes=STEPS):
    with torch.no_grad():
        return in_pieces(model, *sequence(model), None, sizes, hook)


def test_an_empty_group_and_steps_up_to_L0_change_nothing(model, masks):
    none = [torch.zeros_like(mask) for mask in masks]
    recorder = DecayRecorder()
    plain, end = read(model, recorder)
    memory = mode_memory(recorder)
    ones = [torch.tensor(1.0)] * 2
    for make in (
        lambda m: size_at_L0(m, ones, L0, 1),
        lambda m: clamp_inflation(m, memory, L0, 1),
        lambda m: hold_at_L0(m, L0, 1),
    ):
        got, state = read(model, make(none))
        torch.testing.assert_close(got, plain, **CLOSE)
        assert_same_state(state, end, CLOSE)
        got, _ = read(model, make(masks))
        torch.testing.assert_close(got[:, :L0], plain[:, :L0], **CLOSE)
        assert not torch.allclose(got[:, L0:], plain[:, L0:])


@pytest.mark.parametrize("every", [1, 3])
def test_a_group_that_is_read_at_another_size_goes_on_as_it_is(model, masks, every):
    _, plain = read(model, None)
    _, end = read(model, size_at_L0(masks, [torch.tensor(0.7)] * 2, L0, every), (8, 5))
    torch.testing.assert_close(
        end.layers[0].memory, plain.layers[0].memory, **CLOSE
    )  # nothing before the first layer changed
    assert not torch.allclose(end.layers[1].memory, plain.layers[1].memory)


def test_what_is_read_is_the_scaled_state_and_the_rest_untouched(model, masks):
    """A hook by hand, one step at a time, that scales h0 and, after the step, puts the plain state back."""
    mask, plain_states = masks[0], {}

    def by_hand(call):
        h = 0 if call.h0 is None else plain_states.get(call.layer, call.h0)
        write = (call.dt * call.x)[:, 0, :, None] * call.Bmat[:, 0, None]
        true = torch.exp(call.dt[:, 0, :, None] * call.A) * h + write
        if call.layer or call.t0 < L0:
            return call
        plain_states[0] = true
        scaled = h.clone()
        scaled[:, mask] *= 0.7 / h[:, mask].norm(dim=1, keepdim=True)
        return replace(call, h0=scaled, post_state=lambda _: true)

    want, _ = read(model, by_hand)
    got, _ = read(model, size_at_L0(masks, [torch.tensor(0.7, dtype=torch.float64)] * 2, L0, 1))
    torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize("sizes", [(13,), (8, 5), (4, 9), STEPS])
def test_a_clamped_group_forgets_so_much_more(model, masks, sizes):
    recorder = DecayRecorder()
    read(model, recorder)
    memory, mask = mode_memory(recorder), masks[0]
    _, end = read(model, clamp_inflation(masks, memory, L0, 1), sizes)
    (call, _) = seen(model, *sequence(model))  # the inputs of the first layer never change
    h = 0
    for t in range(13):
        h = torch.exp(call.dt[:, t, :, None] * call.A) * h
        h = h + (call.dt * call.x)[:, t, :, None] * call.Bmat[:, t, None]
        if t >= L0:
            h = torch.where(mask, h * series(memory[0].rho, L0) / series(memory[0].rho, L0 + 1), h)
    torch.testing.assert_close(end.layers[0].memory, h, **CLOSE)


def test_clamping_keeps_an_average_state_at_its_size():
    """Inputs and decays that are always the same: then E[h] = w F(t) exactly, and stays w F(L0), whatever the interval."""
    rho = torch.tensor([[0.5, 0.9, 0.99, 0.9999]], dtype=torch.float64)
    A, one = rho.log(), torch.ones(1, 12, 1, dtype=torch.float64)
    call = MambaCall(
        layer=0,
        t0=L0,
        target_length=None,
        x=one,
        z=one,
        dt=one,
        A=A,
        Bmat=one.expand(1, 12, 4),
        Cmat=one.expand(1, 12, 4),
        h0=series(rho, L0)[None],
    )

    def ordinary(part):
        skip = torch.zeros(1, dtype=torch.float64)
        options = {"h0": part.h0, "return_last_state": True}
        return *selective_scan(part.x, part.dt, part.A, part.Bmat, part.Cmat, skip, **options), ()

    for every in (1, 3, 4):
        hook = clamp_inflation([torch.ones(1, 4, dtype=torch.bool)], [ModeMemory.of(rho)], L0, every)
        _, h, *_ = hook(call).scan(hook(call), ordinary)
        torch.testing.assert_close(h[0], series(rho, L0), **CLOSE)


def test_a_held_group_keeps_its_state_of_L0(model, masks):
    at_L0, mask = {}, masks[0]

    def spy(call):
        if call.t0 == L0:
            at_L0[call.layer] = call.h0
        return call

    read(model, spy)
    _, end = read(model, hold_at_L0(masks, L0, 1))
    torch.testing.assert_close(end.layers[0].memory[:, mask], at_L0[0][:, mask], **CLOSE)
    _, plain = read(model, None)
    torch.testing.assert_close(end.layers[0].memory[:, ~mask], plain.layers[0].memory[:, ~mask], **CLOSE)
    assert not torch.allclose(end.layers[0].memory[:, mask], plain.layers[0].memory[:, mask])

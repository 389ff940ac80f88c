"""Interventions on groups of modes, each against a loop over single steps that does what it says."""

from dataclasses import replace

import pytest
import torch

from lgmamba.probe.dynamics import DecayRecorder, mode_memory, series
from lgmamba.probe.groups import clamp_inflation, group_norms, hold_at_L0, size_at_L0
from tests.model.models import L0, exact, sequence
from tests.model.passes import CUTS, assert_same_state, in_pieces

CLOSE = {"rtol": 1e-9, "atol": 1e-11}
STEPS = CUTS[-1]


@pytest.fixture
def model():
    return exact()


@pytest.fixture
def masks():
    g = torch.Generator().manual_seed(7)
    return [torch.rand(24, 4, generator=g) < 0.5, torch.zeros(24, 4, dtype=torch.bool)]


def read(model, plan, sizes=STEPS):
    with torch.no_grad():
        return in_pieces(model, *sequence(model), None, sizes, plan)


def test_an_empty_group_and_steps_up_to_L0_change_nothing(model, masks):
    none = [torch.zeros_like(mask) for mask in masks]
    recorder = DecayRecorder()
    plain, end = read(model, recorder)
    memory = mode_memory(recorder)
    ones = [torch.tensor(1.0)] * 2
    for make in (
        lambda m: size_at_L0(m, ones, L0),
        lambda m: clamp_inflation(m, memory, L0),
        lambda m: hold_at_L0(m, L0),
    ):
        got, state = read(model, make(none))
        torch.testing.assert_close(got, plain, **CLOSE)
        assert_same_state(state, end, CLOSE)
        got, _ = read(model, make(masks))
        torch.testing.assert_close(got[:, :L0], plain[:, :L0], **CLOSE)
        assert not torch.allclose(got[:, L0:], plain[:, L0:])


def test_a_group_is_read_at_another_size_and_goes_on_as_it_is(model, masks):
    calls = []
    mask, target = masks[0], 0.7

    def spy(call):
        call = size_at_L0(masks, [torch.tensor(target, dtype=torch.float64)] * 2, L0)(call)
        calls.append(call)
        return call

    _, end = read(model, spy)
    for call in calls:
        if call.layer == 0 and call.t0 >= L0:
            size = group_norms(call.h0, mask)
            torch.testing.assert_close(size, torch.full_like(size, target), **CLOSE)
    _, plain = read(model, None)
    torch.testing.assert_close(end.layers[0].h, plain.layers[0].h, **CLOSE)  # nothing before the first layer changed
    assert not torch.allclose(end.layers[1].h, plain.layers[1].h)


def test_what_is_read_is_the_scaled_state_and_the_rest_untouched(model, masks):
    """A plan by hand that scales h0 and, after the step, puts the plain state back."""
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
    got, _ = read(model, size_at_L0(masks, [torch.tensor(0.7, dtype=torch.float64)] * 2, L0))
    torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize("sizes", [STEPS, (8, 1, 1, 3), (8, 5)])
def test_a_clamped_group_forgets_so_much_more(model, masks, sizes):
    recorder = DecayRecorder()
    read(model, recorder)
    memory, mask = mode_memory(recorder), masks[0]
    states = []

    def spy(call):
        if call.layer == 0 and call.t0 >= L0:
            states.append((call.dt.shape[1], call.h0))
        return call

    plan = clamp_inflation(masks, memory, L0)
    read(model, lambda call: plan(spy(call)), sizes)
    calls = []
    in_pieces(model, *sequence(model), None, sizes, lambda call: calls.append(call) or call)
    first = [call for call in calls if call.layer == 0 and call.t0 >= L0]  # the inputs of the first layer never change
    for (length, h), (_, after), call in zip(states, states[1:], first, strict=False):
        for t in range(length):
            write = (call.dt * call.x)[:, t, :, None] * call.Bmat[:, t, None]
            h = torch.exp(call.dt[:, t, :, None] * call.A) * h + write
        factor = torch.where(mask, series(memory[0].rho, L0) / series(memory[0].rho, L0 + length), 1.0)
        torch.testing.assert_close(after, h * factor, **CLOSE)


def test_a_held_group_keeps_its_state_of_L0(model, masks):
    at_L0, mask = {}, masks[0]

    def spy(call):
        if call.t0 == L0:
            at_L0[call.layer] = call.h0
        return call

    read(model, spy)
    _, end = read(model, hold_at_L0(masks, L0))
    torch.testing.assert_close(end.layers[0].h[:, mask], at_L0[0][:, mask], **CLOSE)
    _, plain = read(model, None)
    torch.testing.assert_close(end.layers[0].h[:, ~mask], plain.layers[0].h[:, ~mask], **CLOSE)
    assert not torch.allclose(end.layers[0].h[:, mask], plain.layers[0].h[:, mask])

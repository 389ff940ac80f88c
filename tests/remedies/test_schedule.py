"""Gains that follow t: their interpolation, the same in pieces, nothing up to L0, and a calibration over all lengths at once."""

import math

import pytest
import torch

from lgmamba.remedies.schedule.remedy import GAINS, GainSchedule, temperature
from lgmamba.remedies.search import by_gradient, loss_at_steps
from lgmamba.remedies.step_size.remedy import scale_step_sizes
from tests.mixers import contract as mixers
from tests.mixers.oracles import attention
from tests.model.models import EXACT, L0, as_read, draw_task, exact, sequence, told
from tests.model.passes import CUTS, in_pieces, seen

D, N = 24, 4
FORMS = {gains: GainSchedule(L0, [1.25, 1.5], gains, 2, D, N) for gains in GAINS}


def factors(schedule: GainSchedule, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(schedule.n_factors, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise.mul(0.5).exp()


@pytest.mark.parametrize("schedule", FORMS.values(), ids=FORMS)
def test_factors_are_counted_by_layer_knot_and_mode(schedule):
    assert schedule.n_factors == 2 * 2 * {"step_size": 1, "modes": 9, "channels": 57}[schedule.gains]
    assert GainSchedule.of(exact(), [1.25, 1.5], schedule.gains) == schedule


def test_factors_are_those_of_the_knots_and_linear_in_logarithms_between_them():
    schedule = GainSchedule(4, [2, 8], "channels", 2, D, N)
    model = exact()
    patches, cells = sequence(model, L=40)
    calls, s = seen(model, patches, cells), factors(schedule).reshape(2, 2, 57)
    for layer in (0, 1):
        changed = schedule.hook(s.flatten())(calls[layer])
        want = {1: torch.ones(57), 4: torch.ones(57), 8: s[layer, 0], 32: s[layer, 1], 40: s[layer, 1]}
        want |= {16: (s[layer, 0] * s[layer, 1]).sqrt()}
        for t, gains in want.items():
            by_name = {"dt": gains[0] * gains[9:33], "Bmat": gains[1:5], "Cmat": gains[5:9], "x": gains[33:]}
            for name, gain in by_name.items():
                before, after = getattr(calls[layer], name)[:, t - 1], getattr(changed, name)[:, t - 1]
                torch.testing.assert_close(after, before * gain, **EXACT)
        assert torch.equal(changed.z, calls[layer].z)
        assert torch.equal(changed.A, calls[layer].A)


@pytest.mark.parametrize("schedule", FORMS.values(), ids=FORMS)
def test_factors_of_1_and_steps_up_to_the_training_length_change_nothing(schedule):
    model = exact()
    patches, cells = sequence(model)
    want, _ = model.encode(model.embed(patches, cells))
    same, _ = model.encode(
        model.embed(patches, cells), hook=schedule.hook(torch.ones(schedule.n_factors, dtype=torch.float64))
    )
    torch.testing.assert_close(same, want, **EXACT)
    got, _ = model.encode(model.embed(patches, cells), hook=schedule.hook(factors(schedule)))
    torch.testing.assert_close(got[:, :L0], want[:, :L0], **EXACT)
    assert not torch.allclose(got[:, L0:], want[:, L0:], rtol=1e-3)


@pytest.mark.parametrize("sizes", CUTS[1:], ids=str)
@pytest.mark.parametrize("schedule", FORMS.values(), ids=FORMS)
def test_pieces_and_single_steps_equal_the_whole_and_nothing_looks_ahead(schedule, sizes):
    model, hook = exact(), schedule.hook(factors(schedule))
    patches, cells = sequence(model)
    want, _ = model.encode(model.embed(patches, cells), hook=hook)
    got, _ = in_pieces(model, patches, cells, None, sizes, hook)
    torch.testing.assert_close(got, want, **EXACT)
    changed = patches.clone()
    changed[:, 10:] += 1.0
    got, _ = model.encode(model.embed(changed, cells), hook=hook)
    assert torch.equal(got[:, :10], want[:, :10])


@pytest.mark.parametrize("schedule", FORMS.values(), ids=FORMS)
def test_gradients_of_the_loss_over_lengths_are_those_of_finite_differences(schedule):
    model = exact(adaptive=told())
    patches, cells = sequence(model)
    targets = torch.rand(3, *model.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    sequences = as_read(patches, cells, targets)
    loss = loss_at_steps(model, draw_task(), sequences, schedule.hook, [9, 11, 13], torch.full((3,), L0))
    theta = factors(schedule).log().requires_grad_(True)
    assert torch.autograd.gradcheck(loss, theta, fast_mode=True)


def test_calibration_finds_the_schedule_that_the_targets_were_made_with():
    model, schedule = exact(), GainSchedule(4, [1.5, 3.0], "step_size", 2, D, N)
    patches, cells = sequence(model, B=8)
    true = [0.5, 0.3, 1.6, 0.8]
    with torch.no_grad():
        outputs, _ = model.encode(
            model.embed(patches, cells), hook=schedule.hook(torch.tensor(true, dtype=torch.float64))
        )
        targets = model.predict(outputs[:, 12])
    first, second = (
        loss_at_steps(model, draw_task(), as_read(patches, cells, targets)[s], schedule.hook, [13])
        for s in (slice(0, 4), slice(4, 8))
    )
    found = by_gradient(first, second, n=4, steps=100, penalty=0.0)
    assert found.after < 0.05 * found.before


def test_a_scaled_step_size_is_a_special_case():
    model, schedule = exact(), GainSchedule(1, [1.5], "step_size", 2, D, N)
    patches, cells = sequence(model)
    got, _ = model.encode(
        model.embed(patches, cells), hook=schedule.hook(torch.tensor([0.5, 0.75], dtype=torch.float64))
    )
    by_hand = [lambda t: torch.where(t > 1, 0.5, 1.0), lambda t: torch.where(t > 1, 0.75, 1.0)]
    want, _ = model.encode(model.embed(patches, cells), hook=scale_step_sizes(by_hand))
    torch.testing.assert_close(got, want, **EXACT)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="knots must ascend from above 1; got"):
        GainSchedule(L0, [1.0, 2.0], "step_size", 2, D, N)
    with pytest.raises(ValueError, match="knots must ascend"):
        GainSchedule(L0, [], "step_size", 2, D, N)
    with pytest.raises(ValueError, match="expected one of step_size, modes, channels"):
        GainSchedule(L0, [2.0], "dt", 2, D, N)


@pytest.mark.parametrize("position", ["nope", "rope", "alibi"])
def test_a_temperature_sharpens_attention_by_the_logarithm_of_what_is_read_in_units_of_that_of_the_training_length(
    position,
):
    """L0 = 2 of 7 steps: in a stream 1, 1, then ln t / ln 2, so 2 at step 4; told T = 4 that of it at every step."""
    mixer, u = mixers.build(mixers.ROWS[f"attention {position}"]), mixers.inputs()
    by_step = torch.tensor([1, 1, *(math.log2(t) for t in range(3, 8))], dtype=torch.float64)
    assert by_step[3] == 2
    whole = mixer(u, hook=temperature(2))[0]
    torch.testing.assert_close(whole, attention(mixer, u, gain=by_step), **EXACT)
    plain = mixer(u, hook=lambda call: call)[0]
    for n in (2, 4):
        assert torch.equal(mixer(u, hook=temperature(n))[0][:, :n], plain[:, :n])
    assert (whole - mixer(u)[0])[:, 2:].abs().amax((0, 2)).min() > 1e-6
    state, outputs = None, []
    for part in u.split((1, 2, 4), dim=1):
        out, state, _ = mixer(part, state, t0=sum(o.shape[1] for o in outputs), hook=temperature(2))
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, 1), whole, **EXACT)
    told = mixer(u[:, :4], hook=temperature(2, 4))[0]
    torch.testing.assert_close(told, attention(mixer, u[:, :4], gain=2 * torch.ones(4, dtype=torch.float64)), **EXACT)
    assert torch.equal(mixer(u[:, :4], hook=temperature(4, 4))[0], mixer(u[:, :4], hook=lambda call: call)[0])


def test_a_temperature_beyond_a_training_length_of_one_step_counts_from_two():
    mixer, u = mixers.build(mixers.ROWS["attention nope"]), mixers.inputs()
    torch.testing.assert_close(mixer(u, hook=temperature(1))[0], mixer(u, hook=temperature(2))[0], **EXACT)

"""Factors in closed form: against the toy case where the answer is known, and layers that do not care."""

import pytest
import torch

from lgmamba.remedies.closed_form import StateRecorder, closed_form_factors, series
from lgmamba.remedies.step_size.remedy import cumulative_steps
from tests.model.models import L0, exact, sequence
from tests.model.passes import CUTS, in_pieces, seen


def recorded(A: float, step: float = 0.05) -> StateRecorder:
    """One layer, two channels of two modes of the same decay."""
    recorder = StateRecorder()
    recorder.step_sizes = {0: [torch.full((3, L0, 2), step, dtype=torch.float64)]}
    recorder.A = {0: torch.full((2, 2), A, dtype=torch.float64)}
    recorder.energy = {0: torch.ones(2, 2)}
    return recorder


@pytest.mark.parametrize("kappa", [2, 5, 25])
def test_modes_that_never_forget_get_the_ratio_of_lengths_as_step_size(kappa):
    (s,) = closed_form_factors(recorded(-1e-6), "step_size", L0, kappa * L0)
    assert s == pytest.approx(1 / kappa, rel=0.01)  # the penalty on ln s moves it by a thousandth of ln s


@pytest.mark.parametrize("kappa", [2, 25])
@pytest.mark.parametrize("A", [-0.01, -1.0])
def test_the_mean_state_becomes_that_of_the_training_length(kappa, A):
    def F(s: float, t: int) -> float:
        return float(series(torch.tensor(s * A * 0.05, dtype=torch.float64).exp(), t))

    (s,) = closed_form_factors(recorded(A), "spectrum", L0, kappa * L0)
    assert s > 1  # states grew: forget faster
    assert F(s, kappa * L0) == pytest.approx(F(1.0, L0), rel=0.02)
    (s,) = closed_form_factors(recorded(A), "step_size", L0, kappa * L0)
    assert s < 1
    assert s * F(s, kappa * L0) == pytest.approx(F(1.0, L0), rel=0.02)


def test_a_layer_that_has_converged_is_left_alone():
    for form in ("spectrum", "step_size"):
        (s,) = closed_form_factors(recorded(-400.0), form, L0, 25 * L0)
        assert s == pytest.approx(1.0, abs=0.02)


def test_up_to_the_training_length_factors_are_1_and_unknown_forms_are_refused():
    assert closed_form_factors(recorded(-0.1), "spectrum", L0, L0) == [1.0]
    with pytest.raises(ValueError, match="expected 'spectrum' or 'step_size'"):
        closed_form_factors(recorded(-0.1), "dt", L0, 2 * L0)


@pytest.mark.parametrize("sizes", [CUTS[0], CUTS[5]], ids=str)
def test_the_recorder_sees_a_models_steps_and_states_whatever_the_pieces(sizes):
    model = exact()
    patches, cells = sequence(model)
    recorder = StateRecorder()
    _, end = in_pieces(model, patches, cells, None, sizes, recorder)
    for layer, call in enumerate(seen(model, patches, cells)):
        torch.testing.assert_close(torch.cat(recorder.step_sizes[layer], 1), call.dt)
        torch.testing.assert_close(recorder.energy[layer], end.layers[layer].memory.square().mean(0))
    sums = cumulative_steps(recorder.step_sizes, 13)
    torch.testing.assert_close(sums[1], seen(model, patches, cells)[1].dt.sum(1).mean(0))
    assert len(closed_form_factors(recorder, "spectrum", L0, 4 * L0)) == 2

"""Supervised steps and their weights."""

import pytest
import torch

from lgmamba.config.task import SuperviseAll, SuperviseLast, SuperviseRandom
from lgmamba.tasks.supervision import supervised_steps
from tests.drawn import Drawn
from tests.tasks.counts import assert_drawn_from, seeded

CONFIGS = [SuperviseLast(kind="last"), SuperviseRandom(kind="random_k", k=5), SuperviseAll(kind="all")]
LENGTHS = torch.tensor([1, 7, 3, 12, 1, 12])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.kind)
@pytest.mark.parametrize("longest", [12, 20])
def test_steps_lie_inside_each_sequence_and_its_weights_sum_to_1(config, longest):
    steps, weights = supervised_steps(config, LENGTHS, longest, seeded())
    assert steps.shape == weights.shape
    assert (steps.dtype, weights.dtype) == (torch.int64, torch.float32)
    assert (steps >= 1).all() and (steps <= LENGTHS[:, None]).all()
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(6), rtol=0, atol=1e-6)  # a dozen additions in float32


def test_last_is_the_length_itself():
    steps, weights = supervised_steps(CONFIGS[0], LENGTHS, 12, seeded())
    assert steps[:, 0].tolist() == LENGTHS.tolist()
    assert weights.tolist() == [[1.0]] * 6


@pytest.mark.parametrize("longest", [12, 15])
def test_all_covers_each_step_once_with_equal_weight(longest):
    steps, weights = supervised_steps(CONFIGS[2], LENGTHS, longest, seeded())
    for T, row, weight in zip(LENGTHS.tolist(), steps, weights, strict=True):
        counted = row[weight > 0].tolist()
        assert counted == list(range(1, T + 1))
        assert weight[weight > 0].tolist() == [torch.tensor(1 / T, dtype=torch.float32).item()] * T


def test_random_steps_are_uniform_over_each_sequence():
    steps, weights = supervised_steps(CONFIGS[1], torch.tensor([1, 4, 9]).repeat(2000), 9, seeded(1))
    assert steps.shape == (6000, 5)
    assert weights.unique().tolist() == [torch.tensor(0.2).item()]
    for row, T in enumerate((1, 4, 9)):
        assert_drawn_from(steps[row::3], torch.tensor([0.0] + [1 / T] * T))
    pairs = 4 * (steps[1::3, 0] - 1) + steps[1::3, 1] - 1  # drawn with replacement, independently
    assert_drawn_from(pairs, torch.full((16,), 1 / 16))


def test_random_steps_follow_the_generator():
    first, again, other = (supervised_steps(CONFIGS[1], LENGTHS, 12, seeded(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("u", "step"), [(0.0, "first"), (1 - 2**-24, "last")], ids=["least", "greatest"])
def test_the_extreme_random_steps_are_the_ends_of_any_sequence(u, step):
    lengths = torch.arange(1, 20_000)
    with Drawn(u):  # the ends of float32's range
        steps, _ = supervised_steps(SuperviseRandom(kind="random_k", k=1), lengths, 20_000, seeded())
    assert torch.equal(steps[:, 0], torch.ones_like(lengths) if step == "first" else lengths)


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="unknown supervision 'some'"):
        supervised_steps("some", LENGTHS, 12, seeded())

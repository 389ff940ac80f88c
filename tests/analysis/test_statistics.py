import math

import numpy as np
import pytest

from lgmamba.analysis.statistics import Trainings, effect_of
from lgmamba.metrics import psnr


def test_psnr_takes_the_mean_before_the_logarithm():
    mse = np.array([[0.1], [0.001]])
    assert Trainings(mse, 0.95).psnr[0] == pytest.approx(-10 * math.log10(0.0505))
    assert psnr(np.array(0.01)) == pytest.approx(20.0)


def test_students_interval_by_hand():
    effect = effect_of([1.0, 3.0], 0.95, n_images=7)
    assert (effect.effect, effect.sd, effect.per_seed, effect.n_seeds) == (2.0, math.sqrt(2), (1.0, 3.0), 2)
    assert effect.hi - 2 == pytest.approx(12.706, abs=1e-3)  # t of 1 degree of freedom times a standard error of 1
    assert effect.lo == pytest.approx(2 - 12.706, abs=1e-3)
    assert effect.n_images == 7


def test_one_training_has_a_level_and_no_interval():
    effect = effect_of([1.5], 0.95)
    assert effect.effect == 1.5
    assert all(math.isnan(value) for value in (effect.lo, effect.hi, effect.p, effect.sd))


def test_differences_are_paired_by_training():
    """What two settings of one seed share cancels, however much seeds differ."""
    level = np.array([20.0, 24.0, 18.0, 21.0, 23.0])
    mse = 10 ** (-np.concatenate([level + 0.5, level]) / 10) * np.ones((30, 1))
    trainings = Trainings(mse, 0.95)
    difference = trainings.difference(range(5), range(5, 10))
    assert difference.effect == pytest.approx(0.5)
    assert difference.hi - difference.lo < 1e-9
    level_of = trainings.level_of(range(5))
    assert level_of.hi - level_of.lo > 5


def test_the_spread_of_images_is_not_in_the_interval():
    """Trainings that agree have a narrow interval, whatever images do; what images do says nothing about trainings."""
    difficulty = np.random.default_rng(0).lognormal(0, 2, (200, 1))
    effect = Trainings(difficulty * [0.01, 0.01, 0.01, 0.02, 0.02, 0.02], 0.95).difference([0, 1, 2], [3, 4, 5])
    assert effect.effect == pytest.approx(10 * math.log10(2))
    assert effect.hi - effect.lo < 1e-9


def test_identical_columns_differ_by_nothing_and_that_is_not_significant():
    mse = np.random.default_rng(0).random((30, 2))
    effect = Trainings(mse, 0.95).difference([0, 1], [0, 1])
    assert (effect.effect, effect.lo, effect.hi, effect.p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "mse",
    [np.full((2, 2), math.nan), np.full((2, 2), -1.0), np.ones(3), np.ones((0, 2))],
    ids=["nan", "negative", "1-d", "empty"],
)
def test_errors_that_are_no_errors_are_refused(mse: np.ndarray):
    with pytest.raises(ValueError, match="mse: expected"):
        Trainings(mse, 0.95)


def test_seeds_must_pair():
    with pytest.raises(ValueError, match="seeds must pair"):
        Trainings(np.ones((3, 3)), 0.95).difference([0, 1], [2])

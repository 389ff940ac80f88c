import math

import numpy as np
import pytest

from lgmamba.analysis.statistics import (
    FAILS,
    HOLDS,
    OPEN,
    UNTESTABLE,
    Bootstrap,
    Effect,
    resampled_means,
    seeds_only,
    student_interval,
)
from lgmamba.metrics import psnr


def effect_of(values: list[float], lo: float, hi: float) -> Effect:
    return Effect(float(np.mean(values)), lo, hi, math.nan, math.nan, tuple(values), math.nan, len(values), 10)


def test_psnr_takes_the_mean_before_the_logarithm():
    mse = np.array([[0.1], [0.001]])
    assert Bootstrap(mse, 10, 0.95).psnr[0] == pytest.approx(-10 * math.log10(0.0505))
    assert psnr(np.array(0.01)) == pytest.approx(20.0)


def test_two_constant_columns_differ_by_their_ratio_without_spread():
    mse = np.tile([0.01, 0.02], (50, 1))
    effect = Bootstrap(mse, 100, 0.95).difference([0], [1])
    assert effect.effect == pytest.approx(10 * math.log10(2))
    assert (effect.lo, effect.hi) == (pytest.approx(effect.effect), pytest.approx(effect.effect))
    assert effect.n_images == 50


def test_pairing_removes_what_images_share():
    """A constant ratio between two columns has no spread, however much the images differ."""
    shared = np.random.default_rng(0).lognormal(0, 1, (200, 1))
    bootstrap = Bootstrap(shared * [0.01, 0.011], 200, 0.95)
    paired, level = bootstrap.difference([0], [1]), bootstrap.level_of([0])
    assert paired.hi - paired.lo < 1e-9
    assert level.hi - level.lo > 0.3


def test_interval_of_a_level_is_that_of_the_mean():
    """Many images: the bootstrap of 10 log10(mean) is close to the delta method, sd / mean / sqrt(n) * 10 / ln 10."""
    mse = np.random.default_rng(1).lognormal(-4, 0.5, (4000, 1))
    effect = Bootstrap(mse, 2000, 0.95).level_of([0])
    expected = 2 * 1.96 * 10 / math.log(10) * mse.std() / mse.mean() / math.sqrt(len(mse))
    assert effect.hi - effect.lo == pytest.approx(expected, rel=0.1)  # 2,000 resamples know the ends to some 3 %


def test_resampled_means_are_means_of_drawn_rows():
    values = np.random.default_rng(0).random((30, 4))
    got = resampled_means(values, 70, np.random.default_rng(3), block=70)
    drawn = np.random.default_rng(3).integers(0, 30, size=(70, 30))
    np.testing.assert_allclose(got, values[drawn].mean(1), rtol=1e-12)


def test_same_seed_gives_the_same_interval():
    mse = np.random.default_rng(2).random((40, 4))
    a, b = (Bootstrap(mse, 200, 0.95).difference([0, 1], [2, 3]) for _ in range(2))
    assert a == b


def test_d_z_of_a_known_difference():
    """Per-image differences of 1 and 3 dB: mean 2, standard deviation sqrt 2."""
    mse = 10 ** (-np.array([[21.0, 20.0], [23.0, 20.0]]) / 10)
    assert Bootstrap(mse, 10, 0.95).difference([0], [1]).d_z == pytest.approx(2 / math.sqrt(2))


def test_gap_closed_is_the_share_of_the_lead():
    mse = np.tile(10 ** (-np.array([20.0, 22.0, 21.5]) / 10), (20, 1))
    closed = Bootstrap(mse, 50, 0.95).gap_closed([2], [0], [1])
    assert closed.effect == pytest.approx(0.75)
    assert (closed.lo, closed.hi) == (pytest.approx(0.75), pytest.approx(0.75))


@pytest.mark.parametrize(
    ("effect", "sign", "verdict"),
    [
        (effect_of([-1.0, -1.2], -1.4, -0.8), -1, HOLDS),
        (effect_of([-1.0, -1.2], -1.4, -0.8), +1, FAILS),
        (effect_of([0.1, 0.3], -0.1, 0.5), +1, OPEN),
        (effect_of([-0.1, 0.9], 0.1, 0.7), +1, OPEN),  # the interval excludes 0, one seed disagrees
        (effect_of([1.0], 0.9, 1.1), +1, UNTESTABLE),
        (effect_of([math.nan, 1.0], 0.9, 1.1), +1, UNTESTABLE),
    ],
    ids=["holds", "other way", "wide", "seeds disagree", "one seed", "no number"],
)
def test_verdict(effect: Effect, sign: int, verdict: str):
    assert effect.verdict(sign) == verdict


@pytest.mark.parametrize(
    ("lo", "hi", "seeds", "above_half", "within_half"),
    [
        (0.6, 0.9, (0.7, 0.8), HOLDS, FAILS),
        (0.1, 0.4, (0.2, 0.3), FAILS, HOLDS),
        (0.6, 0.9, (0.4, 1.0), OPEN, OPEN),  # the interval says so, a seed does not
        (0.4, 0.6, (0.45, 0.55), OPEN, OPEN),
        (-0.4, 0.3, (-0.1, 0.1), FAILS, HOLDS),
        (-0.9, -0.6, (-0.8, -0.7), FAILS, FAILS),  # beyond the other end
        (0.6, 0.9, (0.7,), UNTESTABLE, UNTESTABLE),
    ],
)
def test_verdict_against_a_threshold(lo: float, hi: float, seeds: tuple, above_half: str, within_half: str):
    effect = Effect(float(np.mean(seeds)), lo, hi, math.nan, math.nan, seeds, math.nan, len(seeds), 10)
    assert effect.verdict(+1, 0.5) == above_half
    assert effect.verdict_within(0.5) == within_half
    opposite = {HOLDS: FAILS, FAILS: HOLDS}.get(above_half, above_half)
    assert effect.verdict(-1, 0.5) == opposite


def simulated(
    rng: np.random.Generator, seeds: int, images: int, seed_sd: float, image_sd: float, effect: float
) -> np.ndarray:
    """Columns a (one per seed), then b; a is better by `effect` dB, up to each training's and each image's own deviation."""
    difficulty = rng.normal(0, 2, (images, 1))
    a = 20 + effect + rng.normal(0, seed_sd, seeds) + rng.normal(0, image_sd, (images, seeds))
    return 10 ** (-np.concatenate([a, np.full((images, seeds), 20.0)], axis=1) / 10 - difficulty / 10)


def covered(seeds: int, seed_sd: float, image_sd: float, studies: int = 300) -> tuple[float, float]:
    """Share of studies whose bootstrap, and whose Student's, interval holds the true difference."""
    rng = np.random.default_rng(seeds)
    # the mean of 10 ** (-noise / 10) over infinitely many images, in dB: what a's own noise costs
    cost = math.log(10) / 20 * image_sd**2
    hits = []
    for k in range(studies):
        mse = simulated(rng, seeds, 60, seed_sd, image_sd, 0.5)
        found = Bootstrap(mse, 200, 0.95, seed=k).difference(range(seeds), range(seeds, 2 * seeds))
        hits.append((found.lo <= 0.5 - cost <= found.hi, found.lo_t <= 0.5 - cost <= found.hi_t))
    return tuple(np.mean(hits, axis=0))


def test_coverage_where_images_make_the_spread():
    bootstrap, _ = covered(seeds=3, seed_sd=0.0, image_sd=1.0)
    assert 0.90 <= bootstrap <= 1.0  # stretched seeds make it somewhat wide


def test_coverage_where_seeds_make_the_spread():
    """The honest part: two or three seeds do not carry a 95 % bootstrap interval; Student's does."""
    for seeds, at_least in ((2, 0.45), (3, 0.65)):
        bootstrap, student = covered(seeds, seed_sd=0.3, image_sd=0.1)
        assert at_least <= bootstrap < 0.93
        assert student >= 0.92


def test_no_effect_is_rarely_shown():
    """Without a true effect a verdict either way appears in a few per cent of studies."""
    rng = np.random.default_rng(5)
    verdicts = []
    for k in range(200):
        mse = 10 ** (-(20 + rng.normal(0, 2, (60, 1)) + rng.normal(0, 0.5, (60, 6))) / 10)
        verdicts.append(Bootstrap(mse, 200, 0.95, seed=k).difference([0, 1, 2], [3, 4, 5]).verdict(+1))
    assert verdicts.count(OPEN) >= 0.93 * len(verdicts)


def test_identical_columns_are_not_shown():
    mse = np.random.default_rng(0).random((30, 2))
    assert Bootstrap(mse, 100, 0.95).difference([0, 1], [0, 1]).verdict(+1) == OPEN


def test_seeds_only_and_student_by_hand():
    effect = seeds_only(np.array([1.0, 3.0]), 4000, 0.95)
    assert effect.effect == 2.0
    assert (effect.lo, effect.hi) == (
        pytest.approx(2 - math.sqrt(2)),
        pytest.approx(2 + math.sqrt(2)),
    )  # stretched by sqrt 2
    lo, hi = student_interval(np.array([1.0, 3.0]), 0.95)
    assert hi - 2 == pytest.approx(12.706, abs=1e-3)  # t of 1 degree of freedom times a standard error of 1
    assert lo == pytest.approx(2 - 12.706, abs=1e-3)
    assert all(math.isnan(end) for end in student_interval(np.array([1.0]), 0.95))


@pytest.mark.parametrize(
    "mse",
    [np.full((2, 2), math.nan), np.full((2, 2), -1.0), np.ones(3), np.ones((0, 2))],
    ids=["nan", "negative", "1-d", "empty"],
)
def test_errors_that_are_no_errors_are_refused(mse: np.ndarray):
    with pytest.raises(ValueError, match="mse: expected"):
        Bootstrap(mse, 10, 0.95)


def test_seeds_must_pair():
    with pytest.raises(ValueError, match="seeds must pair"):
        Bootstrap(np.ones((3, 3)), 10, 0.95).difference([0, 1], [2])

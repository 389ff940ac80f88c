"""Training lengths: exact laws, and draws that follow them."""

import math

import pytest
import torch
from pydantic import TypeAdapter

from lgmamba.config.lengths import LengthConfig
from lgmamba.tasks.lengths import LengthDistribution
from tests.drawn import Drawn
from tests.tasks.counts import assert_drawn_from, seeded

CURRICULUM = {
    "kind": "curriculum",
    "start": {"kind": "fixed", "value": 3},
    "end": {"kind": "uniform", "low": 2, "high": 6},
    "over": 0.5,
}
SHRINKING = CURRICULUM | {
    "start": {"kind": "uniform", "low": 5, "high": 8},
    "end": {"kind": "fixed", "value": 2},
    "over": 1,
}
MIXTURE = {
    "kind": "mixture",
    "parts": [
        {"weight": 3, "lengths": {"kind": "fixed", "value": 8}},
        {"weight": 1, "lengths": {"kind": "uniform", "low": 3, "high": 4}},
    ],
}
# id: (configuration, progress, support)
LAWS = {
    "fixed": ({"kind": "fixed", "value": 5}, 1, {5}),
    "uniform": ({"kind": "uniform", "low": 3, "high": 9}, 1, set(range(3, 10))),
    "uniform-1": ({"kind": "uniform", "low": 4, "high": 4}, 1, {4}),
    "log_uniform": ({"kind": "log_uniform", "low": 2, "high": 11}, 1, set(range(2, 12))),
    "choice": ({"kind": "choice", "weights": {4: 1, 16: 3, 7: 0.5}}, 1, {4, 7, 16}),
    "geometric": ({"kind": "geometric", "mean": 2.5, "max": 9}, 1, set(range(1, 10))),
    "geometric-1": ({"kind": "geometric", "mean": 1, "max": 1}, 1, {1}),
    "mixture": (MIXTURE, 1, {3, 4, 8}),
    "curriculum-0": (CURRICULUM, 0, {3}),
    "curriculum-quarter": (CURRICULUM, 0.25, {2, 3, 4, 5, 6}),
    "curriculum-over": (CURRICULUM, 0.5, {2, 3, 4, 5, 6}),
    "curriculum-1": (CURRICULUM, 1, {2, 3, 4, 5, 6}),
    "shrinking-0": (SHRINKING, 0, {5, 6, 7, 8}),
    "shrinking-half": (SHRINKING, 0.5, {2, 5, 6, 7, 8}),
    "shrinking-1": (SHRINKING, 1, {2}),
}
ALMOST_1 = 1 - 2**-53
"""The largest number that torch.rand gives in float64."""

all_laws = pytest.mark.parametrize(("config", "progress", "support"), LAWS.values(), ids=LAWS)


def distribution(config: dict) -> LengthDistribution:
    return LengthDistribution(TypeAdapter(LengthConfig).validate_python(config))


def law(config: dict, progress: float = 1.0) -> list[float]:
    return distribution(config).pmf(progress).tolist()


@all_laws
def test_the_law_sums_to_1_on_exactly_its_support(config, progress, support):
    lengths = distribution(config)
    pmf = lengths.pmf(progress)
    assert (pmf.dtype, len(pmf)) == (torch.float64, lengths.max + 1)
    assert set(torch.where(pmf > 0)[0].tolist()) == support
    assert pmf.sum().item() == pytest.approx(1, abs=1e-14)  # some ten additions in float64


@all_laws
def test_draws_follow_the_law(config, progress, support):
    lengths = distribution(config)
    draws = lengths.sample(20_000, seeded(), progress)
    assert (draws.shape, draws.dtype) == ((20_000,), torch.int64)
    assert_drawn_from(draws, lengths.pmf(progress))


@all_laws
def test_the_extreme_draws_are_the_ends_of_the_support(config, progress, support):
    lengths = distribution(config)
    for u, end in ((0.0, min(support)), (ALMOST_1, max(support))):
        with Drawn(u):
            assert lengths.sample(1, seeded(), progress).item() == end


def test_draws_follow_the_generator():
    lengths = distribution({"kind": "uniform", "low": 1, "high": 1000})
    assert torch.equal(lengths.sample(50, seeded(1)), lengths.sample(50, seeded(1)))
    assert not torch.equal(lengths.sample(50, seeded(1)), lengths.sample(50, seeded(2)))


def test_the_longest_length_is_that_of_the_whole_training():
    assert [distribution(c).max for c, _, _ in LAWS.values()] == [5, 9, 4, 11, 16, 9, 1, 8, 6, 6, 6, 6, 8, 8, 8]


def test_uniform_and_fixed_by_hand():
    assert law({"kind": "uniform", "low": 2, "high": 5}) == [0, 0, 0.25, 0.25, 0.25, 0.25]
    assert law({"kind": "fixed", "value": 3}) == [0, 0, 0, 1]


def test_log_uniform_by_its_formula():
    found = law({"kind": "log_uniform", "low": 3, "high": 23})
    for T in range(3, 24):
        assert found[T] == pytest.approx(
            math.log((T + 1) / T) / math.log(24 / 3), rel=1e-13
        )  # two logarithms, one division


def test_log_uniform_gives_every_octave_the_same_share():
    found = law({"kind": "log_uniform", "low": 1, "high": 63})
    for k in range(6):
        assert sum(found[2**k : 2 ** (k + 1)]) == pytest.approx(1 / 6, rel=1e-12)  # up to 32 additions in float64


def test_choice_weights_are_normalised():
    assert law({"kind": "choice", "weights": {2: 1, 5: 3}}) == [0, 0, 0.25, 0, 0, 0.75]


@pytest.mark.parametrize(("mean", "longest"), [(1.5, 9), (4, 64), (16, 64), (2, 1000), (30, 64)])
def test_geometric_has_the_mean_asked_for_and_a_constant_ratio(mean, longest):
    pmf = torch.tensor(law({"kind": "geometric", "mean": mean, "max": longest}), dtype=torch.float64)
    lengths = torch.arange(longest + 1)
    assert (pmf * lengths).sum().item() == pytest.approx(mean, rel=1e-12)  # bisection to the last bit of the ratio
    ratios = pmf[2:] / pmf[1:-1]
    ratios = ratios[pmf[2:] > 1e-290]  # beyond it float64 loses digits
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios), rtol=1e-12, atol=0)  # one power of the ratio each
    assert ratios[0] < 1


def test_mixture_weighs_its_parts():
    assert law(MIXTURE) == [0, 0, 0, 0.125, 0.125, 0, 0, 0, 0.75]


def test_geometric_at_both_ends_of_its_mean():
    shortest = law({"kind": "geometric", "mean": 1, "max": 4})
    assert shortest[1] == pytest.approx(1, abs=1e-14) and sum(shortest[2:]) < 1e-14  # the limit of a ratio of 0
    flat = law({"kind": "geometric", "mean": 2.5, "max": 4})
    assert flat[1:] == pytest.approx([0.25] * 4, rel=1e-12)  # the limit of a ratio of 1


def test_a_curriculum_mixes_by_progress_and_then_stays():
    assert law(CURRICULUM, 0) == [0, 0, 0, 1, 0, 0, 0]
    assert law(CURRICULUM, 0.25) == pytest.approx([0, 0, 0.1, 0.6, 0.1, 0.1, 0.1], abs=1e-15)  # one rounding each
    for progress in (0.5, 0.75, 1):
        assert law(CURRICULUM, progress) == pytest.approx([0, 0, 0.2, 0.2, 0.2, 0.2, 0.2], abs=1e-15)
    assert law(SHRINKING, 0.5) == pytest.approx([0, 0, 0.5, 0, 0, 0.125, 0.125, 0.125, 0.125], abs=1e-15)


def test_a_curriculum_draws_by_the_progress_of_each_call():
    lengths = distribution(SHRINKING)
    for progress in (0, 1, 0, 0.5):
        assert_drawn_from(lengths.sample(5_000, seeded(3), progress), lengths.pmf(progress))

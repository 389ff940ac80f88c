"""Primary contrasts: intervals over trainings, Holm's correction, verdicts, and what is refused."""

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lgmamba.analysis.contrasts import (
    DESCRIBED,
    OPPOSITE,
    SAME,
    SHOWN,
    SMALL,
    UNDECIDED,
    UNTESTABLE,
    Levels,
    contrasts_frame,
    detectable,
    holm,
)
from lgmamba.analysis.statistics import effect_of
from lgmamba.config.base import ConfigError, validate
from lgmamba.config.claims import ClaimsConfig, needed_steps, steps_of

L0 = {"special": 64, "general": 64}


def contrast(**changes):
    values = {
        "name": "C3",
        "claim": "A specialist beats the generalist at its own length",
        "of": {"run": "special", "at": "L0"},
        "minus": {"run": "general", "at": "L0"},
        "claimed": "above",
    }
    return values | changes


def claims(*contrasts, **changes) -> ClaimsConfig:
    return validate(ClaimsConfig, {"primary": list(contrasts)} | changes, "test")


def levels(values: dict[tuple[str, int], list[float]], method: str = "model", mode: str = "prefix") -> pl.DataFrame:
    """{(run, step): level of each seed} -> the frame of levels."""
    rows = [
        {"run": run, "seed": s, "method": method, "mode": mode, "order": "replacement", "step": step, "value": v}
        for (run, step), per_seed in values.items()
        for s, v in enumerate(per_seed)
    ]
    return pl.DataFrame(rows)


def judge(config: ClaimsConfig, frame: pl.DataFrame) -> list[dict]:
    return contrasts_frame(Levels({None: frame}, L0, "replacement", "mean_image"), config).to_dicts()


def test_interval_and_p_value_are_those_of_students_paired_test():
    a, b = np.array([20.1, 20.4, 19.9, 20.3, 20.6]), np.array([19.0, 19.8, 19.1, 19.2, 19.7])
    (row,) = judge(claims(contrast()), levels({("special", 64): a, ("general", 64): b}))
    known = stats.ttest_rel(a, b)
    assert row["effect"] == pytest.approx(0.9)
    assert (row["lo"], row["hi"]) == pytest.approx(tuple(known.confidence_interval(0.95)))
    assert row["p"] == pytest.approx(known.pvalue)
    assert row["per_seed"] == pytest.approx((a - b).tolist())
    assert row["verdict"] == SHOWN


def test_the_interval_covers_the_truth_as_often_as_it_says_where_trainings_make_the_spread():
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 10):
        found = [effect_of(rng.normal(0.3, 1.0, n), 0.95) for _ in range(2000)]
        covered = np.mean([p.lo < 0.3 < p.hi for p in found])
        assert covered == pytest.approx(0.95, abs=0.015), n


def test_holm_is_the_step_down_correction_and_never_puts_a_larger_p_before_a_smaller():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    adjusted = holm([math.nan, 0.02])
    assert math.isnan(adjusted[0]) and adjusted[1] == 0.02  # what cannot be tested costs the others nothing


def test_the_detectable_effect_is_found_with_the_power_that_it_names():
    rng = np.random.default_rng(1)
    for n in (5, 10):
        size = detectable(2.0, n, 0.95)
        p = stats.ttest_1samp(rng.normal(size, 2.0, (20_000, n)), 0.0, axis=1).pvalue
        assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.012)
    assert math.isnan(detectable(1.0, 1, 0.95))


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.5, 0.6, 0.55, 0.52, 0.58], SHOWN),
        ([0.05, 0.06, 0.055, 0.052, 0.058], SMALL),
        ([-0.5, -0.6, -0.55, -0.52, -0.58], OPPOSITE),
        ([0.02, -0.03, 0.01, -0.01, 0.02], SAME),
        ([1.0, -0.8, 0.6, -0.5, 0.9], UNDECIDED),
    ],
)
def test_the_verdict_asks_for_significance_and_for_the_margin(differences, expected):
    frame = levels({("special", 64): [20 + d for d in differences], ("general", 64): [20.0] * 5})
    (row,) = judge(claims(contrast()), frame)
    assert row["verdict"] == expected
    (turned,) = judge(claims(contrast(claimed="below")), frame)
    assert turned["verdict"] == {SHOWN: OPPOSITE, OPPOSITE: SHOWN, SMALL: OPPOSITE}.get(expected, expected)


def test_holm_runs_over_the_primary_contrasts_of_the_study():
    differences = [0.30, 0.05, 0.42, 0.20, 0.35]  # p = 0.015: significant alone, not beside four others
    values = {("special", t): [20 + d for d in differences] for t in (4, 8, 16, 32, 64)}
    values |= {("general", t): [20.0] * 5 for t in (4, 8, 16, 32, 64)}
    one = claims(contrast())
    assert judge(one, levels(values))[0]["verdict"] == SHOWN
    sides = [{"of": {"run": "special", "at": t}, "minus": {"run": "general", "at": t}} for t in (4, 8, 16, 32, 64)]
    five = claims(*(contrast(name=f"C{i}", **side) for i, side in enumerate(sides)))
    rows = judge(five, levels(values))
    assert [row["verdict"] for row in rows] == [UNDECIDED] * 5
    assert rows[0]["p_holm"] == pytest.approx(5 * rows[0]["p"])


def test_fewer_trainings_than_asked_for_are_described_and_cost_the_others_nothing():
    frame = levels({("special", 64): [21.0, 21.1, 21.2], ("general", 64): [20.0, 20.0, 20.0]})
    (row,) = judge(claims(contrast()), frame)
    assert row["verdict"] == DESCRIBED and row["reason"] == "3 of the 5 trainings needed for a verdict"
    assert row["effect"] == pytest.approx(1.1) and row["lo"] is not None and row["p_holm"] is None
    (enough,) = judge(claims(contrast(needs_seeds=3)), frame)
    assert enough["verdict"] == SHOWN


def test_one_training_has_an_effect_and_no_interval():
    (row,) = judge(claims(contrast()), levels({("special", 64): [21.0], ("general", 64): [20.0]}))
    assert row["effect"] == 1.0 and row["lo"] is None and row["verdict"] == DESCRIBED


def test_a_missing_number_is_named_and_never_guessed():
    (row,) = judge(claims(contrast()), levels({("special", 64): [21.0] * 5, ("general", 32): [20.0] * 5}))
    assert row["verdict"] == UNTESTABLE
    assert row["reason"] == "no training has a number for general at L0"


def test_only_trainings_with_both_sides_are_effect_of():
    (row,) = judge(claims(contrast()), levels({("special", 64): [21.0] * 6, ("general", 64): [20.0] * 5}))
    assert row["n_seeds"] == 5 and row["seeds"] == [0, 1, 2, 3, 4]


def test_several_lengths_are_averaged_and_all_of_them_are_needed():
    values = {("special", t): [float(t)] * 5 for t in (1, 2, 4, 8, 16, 32, 64)}
    values |= {("general", t): [0.0] * 5 for t in (1, 2, 4, 8, 16, 32, 64)}
    over = contrast(of={"run": "special", "at": "to L0"}, minus={"run": "general", "at": "to L0"})
    (row,) = judge(claims(over), levels(values))
    assert row["effect"] == pytest.approx(127 / 7)
    del values["special", 8]
    (row,) = judge(claims(over), levels(values))
    assert row["verdict"] == UNTESTABLE


def test_the_best_of_several_controls_is_taken_training_by_training():
    run = levels({("special", 64): [20.0] * 5}, "vanilla")
    controls = [
        levels({("special", 64): [21.0, 19.0, 20.0, 18.0, 22.0]}, "truncate"),
        levels({("special", 64): [19.0, 21.5, 20.5, 18.5, 20.0]}, "reset", "stream"),
    ]
    best = contrast(
        of={"run": "special", "at": "L0", "remedy": "vanilla"},
        minus={"run": "special", "at": "L0", "best_of": ["truncate", "reset"]},
    )
    (row,) = judge(claims(best), pl.concat([run, *controls]))
    assert row["per_seed"] == [-1.0, -1.5, -0.5, 1.5, -2.0]


def test_the_best_of_several_may_not_be_on_the_side_that_is_claimed():
    of = {"run": "special", "at": "L0", "best_of": ["truncate", "reset"]}
    with pytest.raises(
        ConfigError, match=r"of\.best_of: the best of several may only be the side that the claim is against"
    ):
        claims(contrast(of=of))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L0", [64]),
        ("4 L0", [256]),
        ("25L0", [1600]),
        ("L0 / 4", [16]),
        ("0.3 L0", [19]),
        ("37", [37]),
        ("to L0", [1, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_lengths_are_read_in_units_of_the_runs_own_L0(text, expected):
    assert steps_of(text, 64) == expected


def test_to_L0_ends_at_L0_where_that_is_no_power_of_two():
    assert steps_of("to L0", 48) == [1, 2, 4, 8, 16, 32, 48]


@pytest.mark.parametrize(
    "text", ["L1", "4 x L0", "", "-3", "L0/0x", "to 4 L0", "0", "0 L0", "L0 / 0", f"{10**400} L0"], ids=lambda t: t[:8]
)
def test_a_length_that_cannot_be_read_is_refused(text):
    with pytest.raises(ConfigError, match="a length such as L0, 4 L0, L0 / 4, to L0, or a number of steps"):
        claims(contrast(of={"run": "special", "at": text}))


def test_a_remedy_is_compared_with_what_was_read_on_the_same_images():
    of = {"run": "special", "at": "25 L0", "remedy": "freeze"}
    with pytest.raises(ConfigError, match=r"minus\.remedy: found null, expected a remedy or control, such as vanilla"):
        claims(contrast(of=of))


def test_two_contrasts_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="found 'C3' twice"):
        claims(contrast(), contrast())


def test_the_steps_that_contrasts_need_are_known_before_any_job():
    config = claims(contrast(of={"run": "special", "at": ["L0", "L0 / 3"]}))
    assert needed_steps(config.primary, "special", 64) == {64, 21}
    assert needed_steps(config.primary, "general", 64) == {64}


def test_a_side_may_be_a_change_and_the_mean_of_several_runs():
    """Falls of 1 and 3 dB, mean 2, against one of 5 dB; a seed that one of the runs lacks does not count."""
    at, far = [20.0, 21.0, 22.0], 256
    found = {("a", 64): at, ("a", far): [19.0, 20.1, 21.0], ("b", 64): at[:2], ("b", far): [17.0, 18.0]}
    found |= {("c", 64): at, ("c", far): [15.0, 16.2, 17.0]}
    of, minus = {"run": "a", "also": ["b"], "at": "4 L0", "less": "L0"}, {"run": "c", "at": "4 L0", "less": "L0"}
    config = claims(contrast(of=of, minus=minus))
    known = Levels({None: levels(found)}, dict.fromkeys("abc", 64), "replacement", "mean_image")
    (row,) = contrasts_frame(known, config).to_dicts()
    assert row["seeds"] == [0, 1]
    assert row["per_seed"] == pytest.approx([3.0, (-0.9 - 3.0) / 2 + 4.8])
    assert row["of"] == "the mean of a, b at 4 L0 less that at L0"
    assert needed_steps(config.primary, "b", 64) == {64, 256}


@pytest.mark.parametrize(
    "side", [{"also": ["special"]}, {"also": ["general"], "remedy": "truncate"}, {"less": "L0", "best_of": ["reset"]}]
)
def test_changes_and_means_are_of_runs_as_they_are(side):
    with pytest.raises(ConfigError, match=r"each run once|read as they are"):
        claims(contrast(of={"run": "special", "at": "4 L0"} | side))

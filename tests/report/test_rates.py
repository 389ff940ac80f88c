"""A study that trains every run at several learning rates says which is best; one that does not says nothing of the kind."""

from pathlib import Path

import polars as pl
import pytest

from lgmamba.analysis.families import describe_run, rate_sweep, trained_to
from lgmamba.config.study import load_params
from lgmamba.report.rates import rate_context, who_leads

ROOT = Path(__file__).parents[2]
FIXED = {"lengths": {"kind": "fixed", "value": 4}}
MANY = {"lengths": {"kind": "uniform", "low": 1, "high": 4}}
RUNS = {
    "fixed_low": {"task": FIXED, "train": {"lr": 0.001}},
    "fixed_high": {"task": FIXED, "train": {"lr": 0.1}},
    "many_high": {"task": MANY, "train": {"lr": 0.1}},
    "many_low": {"task": MANY, "train": {"lr": 0.001}},
    "many_mid": {"task": MANY, "train": {"lr": 0.01}},
}
LEVELS = {  # run -> level at 1, 2 and 4 steps, and far beyond; of the second seed 2 more
    "fixed_low": (0, 0, 20, 99),
    "fixed_high": (50, 50, 10, 0),
    "many_high": (9, 6, 3, 0),
    "many_low": (1, 2, 9, 99),
    "many_mid": (9, 9, 0, 0),
}


def study(runs):
    changes = {"runs": runs, "seeds": [0, 1], "claims": {"comparisons": [], "primary": []}}
    return load_params(
        ROOT / "params.yaml", "smoke", changes | {"remedies": [], "remedy_evaluation": None, "probes": None}
    )


def test_the_best_rate_is_that_of_the_training_lengths():
    rows = [
        {"run": run, "seed": seed, "method": "model", "mode": mode, "order": order, "step": step}
        | {"psnr": level + 2.0 * seed + (0 if (mode, order) == ("prefix", "permutation") else 1000 * step)}
        for run, levels in LEVELS.items()
        for seed in (0, 1)
        for mode, order in (("prefix", "permutation"), ("stream", "permutation"), ("prefix", "replacement"))
        for step, level in zip((1, 2, 4, 16), levels, strict=True)
    ]
    fixed, many = rate_context(study(RUNS), pl.DataFrame(rows))
    assert fixed == {"runs": "fixed", "levels": {0.001: 21.0, 0.01: None, 0.1: 11.0}, "best": 0.001, "at_end": True} | {
        "named": {0.001: "fixed_low", 0.1: "fixed_high"}
    }
    assert many == {"runs": "many", "levels": {0.001: 5.0, 0.01: 7.0, 0.1: 7.0}, "best": 0.01, "at_end": False} | {
        "named": {0.001: "many_low", 0.01: "many_mid", 0.1: "many_high"}
    }


def test_who_is_ahead_is_told_at_each_rate_of_runs_that_are_measured_alike():
    runs = RUNS | {"more_low": {"task": MANY, "model": {"d_model": 8}, "train": {"lr": 0.001}}}
    runs |= {"more_high": runs["more_low"] | {"train": {"lr": 0.1}}}
    names = {"fixed": {0.001: "fixed_low", 0.1: "fixed_high"}, "many": {0.001: "many_low", 0.1: "many_high"}}
    names |= {"more": {0.001: "more_low", 0.1: "more_high"}}
    levels = {"fixed": (30.0, 30.0), "many": (5.0, 7.0), "more": (6.0, 6.0)}
    rows = [
        {"runs": called, "named": named, "levels": {0.001: levels[called][0], 0.01: None, 0.1: levels[called][1]}}
        for called, named in names.items()
    ]
    found = who_leads(rows, study(runs))
    assert found == [(0.001, [("more", 6.0), ("many", 5.0)]), (0.1, [("many", 7.0), ("more", 6.0)])]
    assert who_leads(rows[:2], study(runs)) == []


@pytest.mark.parametrize("alone", [{}, {"train": {"lr": 0.02, "steps": 30}}], ids=["as the study", "other steps"])
def test_a_study_with_a_run_at_one_rate_is_no_sweep(alone):
    assert rate_sweep(study(RUNS)) == {
        "fixed": {0.001: "fixed_low", 0.1: "fixed_high"},
        "many": {0.001: "many_low", 0.01: "many_mid", 0.1: "many_high"},
    }
    assert rate_sweep(study(RUNS | {"alone": alone})) == {}


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (("r_low_fixed", "r_high_fixed", "r_high_many", "r_low_many"), {"r_low_fixed", "r_high_many"}),
        (("fixed_10", "fixed_15", "many_15", "many_10"), {"fixed", "many"}),
    ],
    ids=["the rate first", "rates that begin alike"],
)
def test_no_family_is_lost_or_cut_by_the_names_of_its_runs(names, called):
    runs = dict(zip(names, (RUNS[name] for name in ("fixed_low", "fixed_high", "many_high", "many_low")), strict=True))
    sweep = rate_sweep(study(runs))
    assert set(sweep) == called
    assert sorted(name for by_rate in sweep.values() for name in by_rate.values()) == sorted(names)


def test_a_run_is_measured_by_the_specialist_of_its_own_rate_where_there_is_one():
    params = study(RUNS)
    named = {name: trained_to(params, name) for name in RUNS}
    assert named["many_high"] == named["fixed_high"] == {4: "fixed_high"}
    assert named["many_low"] == named["fixed_low"] == named["many_mid"] == {4: "fixed_low"}


def test_a_run_is_measured_by_no_specialist_that_reads_in_another_order():
    again = {"task": MANY | {"order": "replacement"}}
    assert trained_to(study(RUNS | {"again": again}), "again") == {}
    alone = {"task": RUNS["fixed_low"]["task"] | {"order": "replacement"}}
    assert trained_to(study(RUNS | {"again": again, "alone": alone}), "again") == {4: "alone"}


def test_what_a_length_adaptive_run_is_told_is_said():
    film = {"kind": "film", "features": "T_and_t", "hidden": 8, "beyond": "extrapolate"}
    told = {"own": {}, "other": {"told": "shuffled"}, "same": {"told": "constant", "constant": 3}}
    params = study({name: {"task": MANY, "model": {"adaptive": film | extra}} for name, extra in told.items()})
    said = {name: describe_run(run) for name, run in params.runs_by_name().items()}
    assert "told T and t/T (film" in said["own"]
    assert "told another sequence's T and t/T (film" in said["other"]
    assert "told always 3 and t/T (film" in said["same"]

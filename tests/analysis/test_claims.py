import math

import numpy as np
import polars as pl
import pytest

from lgmamba.analysis.claims import HOLDS_IN_PART, claim_verdict
from lgmamba.analysis.evaluate import evaluate
from lgmamba.analysis.families import describe_run, families, kind_of
from lgmamba.analysis.retention import distance, distance_beyond_seeds, slope
from lgmamba.analysis.statistics import FAILS, HOLDS, OPEN, UNTESTABLE
from lgmamba.config.study import Params
from tests.analysis.synthetic_study import DIGITS_RUNS, make_study, study_values


def test_the_rule_for_a_claim():
    def verdict(holds: int, fails: int, open_: int, untestable: int = 0) -> str:
        return claim_verdict({HOLDS: holds, FAILS: fails, OPEN: open_, UNTESTABLE: untestable})

    assert verdict(3, 0, 0, 2) == HOLDS
    assert verdict(2, 1, 0) == HOLDS_IN_PART
    assert verdict(2, 0, 1) == HOLDS_IN_PART
    assert verdict(0, 1, 2) == FAILS
    assert verdict(0, 0, 2) == OPEN
    assert verdict(0, 0, 0, 4) == UNTESTABLE


def test_the_made_up_truth_is_found(study):
    cells = pl.read_parquet(study.frames / "claims.parquet")
    one = cells.filter(claim="C1", run="fixed_8", factor=2.0).row(0, named=True)
    assert one["effect"] == pytest.approx(-1.2, abs=0.05)  # made up: -1.2 dB for each doubling beyond L0
    assert one["lo"] < one["effect"] < one["hi"] < 0
    assert (one["verdict"], one["n_seeds"], one["n_images"], len(one["per_seed"])) == (HOLDS, 2, 40, 2)
    summary = dict(pl.read_parquet(study.frames / "claims_summary.parquet").select("claim", "verdict").rows())
    assert summary["C1"] == HOLDS
    assert summary["C4"] == HOLDS


def test_c2_tests_specialist_and_generalist_at_the_same_early_steps(study):
    cells = pl.read_parquet(study.frames / "claims.parquet").filter(
        pl.col("claim") == "C2", pl.col("against") == "mean image"
    )
    of_16 = cells.filter(run="fixed_16")["step"].to_list()
    assert of_16 == [2, 4]  # L0 / 8 to L0 / 4
    assert set(of_16) <= set(cells.filter(run="uniform")["step"])
    assert cells.filter(run="uniform")["effect"].min() > 0


def test_c3_needs_four_lengths(tmp_path):
    runs = {name: entry for name, entry in DIGITS_RUNS.items() if name not in ("fixed_2",)}
    study_json, results = make_study(tmp_path, study_values(runs, probe={"images": 4}, claims={"bootstrap": 50}))
    evaluate(study_json, results, tmp_path / "frames")
    c3 = pl.read_parquet(tmp_path / "frames/claims_summary.parquet").row(
        by_predicate=pl.col("claim") == "C3", named=True
    )
    assert c3["verdict"] == UNTESTABLE
    assert c3["reason"] == "needs specialists at 4 lengths or more, the study has 3"


def test_one_seed_tests_nothing(tmp_path):
    runs = {name: DIGITS_RUNS[name] for name in ("fixed_16", "uniform", "adaptive")}
    study_json, results = make_study(
        tmp_path, study_values(runs, probe={"images": 4}, claims={"bootstrap": 50}) | {"seeds": [3]}
    )
    evaluate(study_json, results, tmp_path / "frames")
    cells = pl.read_parquet(tmp_path / "frames/claims.parquet")
    assert set(cells["verdict"]) == {UNTESTABLE}
    assert cells.filter(claim="C1")["effect"].null_count() == 0  # the effect is still reported
    summary = pl.read_parquet(tmp_path / "frames/claims_summary.parquet")
    assert set(summary["verdict"]) == {UNTESTABLE}


def test_families_hold_plain_specialists_in_range():
    passed = {
        "task": {"lengths": {"kind": "fixed", "value": 12}},
        "train": {"state_passing": {"kind": "same_image", "max_factor": 25, "share": 0.5}},
    }
    values = study_values(
        {
            **DIGITS_RUNS,
            "fixed_12_passed": passed,
            "fixed_8_random": {
                "task": {"lengths": {"kind": "fixed", "value": 8}, "supervision": {"kind": "random_k", "k": 4}}
            },
            "short_adaptive": {**DIGITS_RUNS["adaptive"], **DIGITS_RUNS["uniform_short"]},
        },
        claims={
            "comparisons": [
                {"generalist": "uniform", "adaptive": "adaptive"},
                {"generalist": "uniform_short", "adaptive": "short_adaptive"},
            ]
        },
    )
    params = Params.model_validate(values)
    long, short = families(params)
    assert long.specialists == {2: "fixed_2", 4: "fixed_4", 8: "fixed_8", 16: "fixed_16"}
    assert short.specialists == {2: "fixed_2", 4: "fixed_4"}
    runs = params.runs_by_name()
    assert [kind_of(runs[name]) for name in ("fixed_2", "uniform", "fixed_8_random", "adaptive")] == [
        "specialist",
        "generalist",
        "several read-outs",
        "length-adaptive",
    ]
    assert describe_run(runs["fixed_8_random"]) == "always 8; loss on 4 random steps"
    told = "always 12; 50% start from states of up to 300 steps, the same image"
    assert describe_run(runs["fixed_12_passed"]) == told


def retention(*rows: tuple[int, int, float, int]) -> pl.DataFrame:
    return pl.DataFrame(
        rows, schema={"step": pl.Int64, "age": pl.Int64, "mse": pl.Float64, "count": pl.Int64}, orient="row"
    )


def test_slope_of_an_exact_line():
    frame = retention(
        *((8, age, 0.1 + 0.02 * math.log2(1 + age), 1 + age) for age in range(8)), (8, -1, 9.0, 5), (4, 0, 7.0, 1)
    )
    assert slope(frame, 8) == pytest.approx(0.02)
    assert math.isnan(slope(frame, 4))


def test_distance_weighs_steps_alike_and_cells_within_a_step():
    a = retention((1, 0, 0.1, 1), (2, 0, 0.1, 1), (2, 1, 0.1, 3), (9, 0, 5.0, 1))
    b = retention((1, 0, 0.1, 1), (2, 0, 0.3, 1), (2, 1, 0.2, 3), (3, 0, 1.0, 1))
    assert distance(a, b, last=8) == pytest.approx(math.sqrt((0 + (0.04 + 3 * 0.01) / 4) / 2))
    assert math.isnan(distance(a, b, last=0))


def test_distance_beyond_seeds_vanishes_between_like_runs():
    rng = np.random.default_rng(0)
    maps = {
        (run, s): retention(*((4, age, 0.1 + rng.normal(0, 0.01), 1) for age in range(200)))
        for run in "ab"
        for s in (0, 1)
    }
    assert abs(distance_beyond_seeds(maps, "a", "b", (0, 1), 4).mean()) < 0.002
    maps |= {("b", s): retention(*((4, age, 0.5, 1) for age in range(200))) for s in (0, 1)}
    assert distance_beyond_seeds(maps, "a", "b", (0, 1), 4).mean() > 0.3

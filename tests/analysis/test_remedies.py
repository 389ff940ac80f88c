"""Frames of remedies, against the made-up truth of `synthetic_remedies`."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lgmamba.analysis import figures_of, frames_of
from lgmamba.analysis.collect import CollectError, collect_runs, load_study
from lgmamba.analysis.evaluate import evaluate
from lgmamba.analysis.remedies.collect import Evaluations, Remedy, collect_remedies, load_evaluations
from lgmamba.analysis.remedies.evaluate import remedy_frames
from lgmamba.analysis.remedies.frames import RemedyEvidence, differences_frame, length_ratio_of, longer_generalist
from lgmamba.analysis.statistics import Trainings
from lgmamba.config.study import Params
from lgmamba.report import write_report
from tests.analysis.synthetic_remedies import SLOPES, VALUES
from tests.analysis.synthetic_study import DIGITS_RUNS, make_study, study_values
from tests.figures.thumbnails import draw_some
from tests.records import record_again


def frame(study, name: str) -> pl.DataFrame:
    return pl.read_parquet(study.frames / f"{name}.parquet")


@pytest.fixture
def spoilt(tmp_path: Path):
    """A small study with remedies that a test may spoil: remedies.json of the first seed of `uniform`, and what reads it."""
    runs = {name: DIGITS_RUNS[name] for name in ("uniform", "uniform_short", "adaptive")}
    values = study_values(
        runs, evaluation={"images": 4, "max_length_ratio": 4, "length_ratios": [2]}, claims={"far_length_ratios": [2]}
    )
    study_json, results = make_study(tmp_path, values | VALUES)

    class Spoilt:
        folder = results / "runs/uniform/seed0/remedies"

        def change(self, **values: object) -> None:
            path = self.folder / "remedies.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | values))
            record_again(self.folder)

        def frames(self) -> dict[str, pl.DataFrame]:
            params = load_study(study_json)
            return remedy_frames(params, collect_runs(params, results / "runs"))

    return Spoilt()


def test_a_study_without_an_extension_has_nothing_of_it(fresh):
    params = load_study(fresh.study)
    assert not [name for name in (*figures_of(params), *frames_of(params)) if "remed" in name]
    evaluate(fresh.study, fresh.results, fresh.frames)


def test_the_made_up_slopes_are_found(study):
    at_4 = frame(study, "remedies_differences").filter(
        run="uniform", order="replacement", factor=4.0, remedy="dt_running"
    )
    effect = dict(at_4.select("against", "effect").rows())
    assert effect["itself at L0"] == pytest.approx(2 * SLOPES["dt_running"], abs=0.1)
    for rival in ("vanilla", "truncate", "reset", "subset_random", "subset_cover", "freeze"):
        assert effect[rival] == pytest.approx(2 * (SLOPES["dt_running"] - SLOPES[rival]), abs=0.03)  # paired, so closer
    assert (at_4["effect_lo"] < at_4["effect"]).all()
    assert (at_4["effect"] < at_4["effect_hi"]).all()


def test_a_difference_is_that_of_means_over_images(study):
    def psnr(remedy: str, seed: int) -> float:
        steps = pl.read_parquet(study.results / f"runs/uniform/seed{seed}/remedies/steps.parquet")
        mine = steps.filter(remedy=remedy, order="permutation", step=64)["mse"].cast(pl.Float64)
        return -10 * np.log10(mine.mean())

    row = (
        frame(study, "remedies_differences")
        .filter(run="uniform", order="permutation", remedy="clip", against="freeze", step=64)
        .row(0, named=True)
    )
    per_seed = [psnr("clip", s) - psnr("freeze", s) for s in (0, 1)]
    assert row["per_seed"] == pytest.approx(per_seed, abs=1e-6)  # single precision per image
    assert row["effect"] == pytest.approx(np.mean(per_seed), abs=1e-6)
    level = frame(study, "remedies").filter(run="uniform", order="permutation", remedy="clip", step=64)["psnr"].item()
    assert level == pytest.approx(np.mean([psnr("clip", s) for s in (0, 1)]), abs=1e-6)


def test_up_to_L0_only_vanilla_is_compared_with(study):
    short = frame(study, "remedies_differences").filter(pl.col("factor") <= 1)
    assert set(short["against"]) == {"vanilla"}
    assert short.filter(~pl.col("control"))["effect"].abs().max() == 0


def test_a_remedy_that_changes_short_sequences_is_found_out(spoilt):
    for seed in (0, 1):
        path = spoilt.folder.parents[1] / f"seed{seed}/remedies/steps.parquet"
        steps = pl.read_parquet(path)
        short = (pl.col("remedy") == "dt_running") & (pl.col("step") == 8)
        steps.with_columns(mse=pl.when(short).then(pl.col("mse") * 1.01).otherwise("mse")).write_parquet(path)
        record_again(path.parent)
    differences = spoilt.frames()["remedies_differences"]
    changed = differences.filter(pl.col("factor") <= 1, remedy="dt_running", run="uniform", order="permutation")
    worst = changed.sort(pl.col("effect").abs()).row(-1, named=True)
    assert (worst["step"], worst["effect"]) == (8, pytest.approx(-10 * np.log10(1.01), abs=1e-5))


def test_levels_of_remedies_can_be_contrasted(study):
    levels = frame(study, "remedies_levels")
    mine = levels.filter(run="uniform", method="clip", order="permutation", step=64).sort("seed")
    level = frame(study, "remedies").filter(run="uniform", order="permutation", remedy="clip", step=64)["psnr"].item()
    assert mine["value"].mean() == pytest.approx(level, abs=1e-9)
    assert mine["seed"].to_list() == [0, 1]


def test_a_longer_generalist_is_plain_and_the_next_longer_one():
    runs = {
        **DIGITS_RUNS,
        "uniform_8": {"task": {"lengths": {"kind": "uniform", "low": 1, "high": 8}}},
    }
    tried = {"runs": ["uniform_short", "uniform", "uniform_8", "fixed_8", "adaptive"]}
    params = Params.model_validate(
        study_values(runs) | VALUES | {"remedy_evaluation": VALUES["remedy_evaluation"] | tried}
    )
    assert longer_generalist(params, "uniform_short") == "uniform_8"
    assert longer_generalist(params, "uniform_8") == "uniform"
    assert longer_generalist(params, "uniform") is None


def made(levels: dict[str, list[float]]) -> RemedyEvidence:
    """Evidence of one run (L0 = 16) at L0, 2 L0 and 4 L0 with exact levels in dB for both seeds."""
    remedy_evaluation = VALUES["remedy_evaluation"] | {"runs": ["uniform"], "orders": ["permutation"]}
    params = Params.model_validate(
        study_values() | {"remedies": VALUES["remedies"][:1], "remedy_evaluation": remedy_evaluation}
    )
    columns, blocks = {}, []
    for name, psnr in levels.items():
        for step, value in zip((16, 32, 64), psnr, strict=True):
            for seed in (0, 1):
                columns["uniform", seed, "permutation", name, step] = len(columns)
                blocks.append(10 ** (-value / 10) * np.ones(3))
    evaluations = Evaluations(np.arange(3), np.stack(blocks, axis=1), columns, (0, 1))
    remedies = {name: Remedy(name, "step_size", "prefix", name, name != "dt_running") for name in levels}
    return RemedyEvidence(params, remedies, evaluations, Trainings(evaluations.mse, 0.95))


def test_the_best_control_is_chosen_for_each_training():
    ev = made(
        {
            "vanilla": [15.0, 14.0, 13.0],
            "freeze": [15.0, 15.0, 15.0],
            "reset": [15.0, 16.0, 14.0],
            "dt_running": [15.0, 15.5, 15.5],
        }
    )
    rows = differences_frame(ev).filter(against="the best control", remedy="dt_running").sort("step")
    assert rows["step"].to_list() == [32, 64]
    assert rows["effect"].to_list() == pytest.approx([-0.5, 0.5])


def test_factors_are_those_asked_for_also_where_patches_are_whole():
    asked = {"runs": ["uniform"], "length_ratios": [1, 1.1, 1.3, 25]}
    params = Params.model_validate(study_values() | VALUES | {"remedy_evaluation": VALUES["remedy_evaluation"] | asked})
    found = {step: length_ratio_of(params.remedy_evaluation, 4, step) for step in params.remedy_evaluation.steps(4)}
    assert found == {1: 0.25, 2: 0.5, 4: 1.0, 5: 1.3, 100: 25.0}


def test_cost_is_told_by_training(study):
    cost = frame(study, "remedies_cost")
    assert len(cost) == 2 * 2 * 12
    mine = cost.filter(run="uniform", seed=1, remedy="a_gradient").row(0, named=True)
    assert (mine["calibration_images"], mine["calibration_passes"], mine["calibration_s"]) == (16, 12, 1.5)
    assert mine["read_relative"] == 1.5
    assert cost.filter(remedy="dt_running")["calibration_passes"].null_count() == 4
    lengths = frame(study, "remedies_lengths")
    mine = lengths.filter(run="uniform", seed=1, remedy="a_gradient", step=32).row(0, named=True)
    assert (mine["factors"], mine["before"], mine["after"], mine["factor"]) == ([0.5, 2.0], 0.05, 0.04, 2.0)
    assert lengths.filter(remedy="freeze")["written_share"].unique().to_list() == [0.0]
    assert lengths.filter(remedy="dt_running", run="uniform", step=400)["step_size_share"].unique().to_list() == [
        16 / 400
    ]


def test_retention_is_a_mean_over_seeds(study):
    paths = [study.results / f"runs/uniform/seed{s}/remedies/retention.parquet" for s in (0, 1)]
    at = {"remedy": "clip", "order": "permutation", "step": 64, "age": 3}
    both = [pl.read_parquet(path).filter(**at)["mse"].item() for path in paths]
    row = frame(study, "remedies_retention").filter(run="uniform", **at).row(0, named=True)
    assert (row["mse"], row["n_seeds"]) == (pytest.approx(np.mean(both)), 2)


def test_memory_is_retention_in_octaves_in_the_first_order(study):
    at = {"run": "uniform", "remedy": "clip", "step": 64}
    ages = frame(study, "remedies_retention").filter(order="permutation", **at)
    octaves = frame(study, "remedies_memory").filter(**at)
    assert octaves["age_low"].to_list() == [0, 1, 3, 7, 15]
    third = ages.filter(pl.col("age").is_between(3, 6))
    mean = (third["mse"] * third["count"]).sum() / third["count"].sum()
    assert octaves.filter(age_low=3).select("age_high", "mse", "count").row(0) == (
        6,
        pytest.approx(mean),
        third["count"].sum(),
    )


def test_the_figure_has_the_best_first_and_no_ideal_memory(study):
    drawn = frame(study, "figure_remedies")
    assert drawn["remedy"].unique(maintain_order=True).to_list() == [
        *("dt_running", "together", "deci_random", "a_gradient", "clip"),
        *("vanilla", "freeze", "subset_random", "subset_cover", "truncate", "reset"),
    ]
    assert drawn.filter(remedy="together")["rank"].unique().to_list() == [2]
    assert drawn.filter(control=True)["rank"].null_count() == drawn.filter(control=True).height
    assert drawn["factor"].min() == 1
    assert drawn.filter(factor=1.0)["delta"].abs().max() == 0
    assert (drawn.filter(remedy="dt_running", factor=8.0)["ahead"] > 0).all()
    assert (drawn.filter(remedy="deci_random", factor=8.0)["ahead"] < 0).all()
    own = (
        frame(study, "remedies").filter(run="uniform", remedy="vanilla", factor=1.0, order="replacement")["psnr"].item()
    )
    short = drawn.filter(run="uniform_short", order="replacement")
    assert short.select("longer", "longer_psnr").unique().rows() == [("uniform", own)]
    assert drawn.filter(run="uniform")["longer"].null_count() == drawn.filter(run="uniform").height
    maps = frame(study, "figure_remedies_retention").select("run", "remedy").unique(maintain_order=True).rows()
    shown = ["vanilla", "dt_running", "together", "deci_random"]
    assert maps == [(run, remedy) for run in ("uniform_short", "uniform") for remedy in shown]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data_digest": "e" * 64}, "trained on images dddddddddddd but remedies tried on images eeeeeeeeeeee"),
        ({"checkpoint_digest": "f" * 64}, "remedies tried on checkpoint ffffffffffff, but train/ holds"),
        (
            {"remedy_evaluation": VALUES["remedy_evaluation"] | {"images": 9}},
            r"another configuration .* images: found 9, expected 20",
        ),
    ],
    ids=["images", "checkpoint", "configuration"],
)
def test_results_of_something_else_are_refused(spoilt, values: dict, message: str):
    spoilt.change(**values)
    with pytest.raises(CollectError, match=f"uniform seed 0: .*{message}"):
        spoilt.frames()


def test_other_remedies_are_refused(spoilt):
    rows = json.loads((spoilt.folder / "remedies.json").read_text())["remedies"]
    spoilt.change(remedies=[row for row in rows if row["name"] != "clip"])
    with pytest.raises(
        CollectError, match="remedies: found dt_running, a_gradient, deci_random, together, expected dt_run"
    ):
        spoilt.frames()
    spoilt.change(remedies=[row | {"words": "another form"} if row["name"] == "clip" else row for row in rows])
    with pytest.raises(
        CollectError, match=r"remedy 'clip' is '\|h\| of a layer .*' in stream mode, elsewhere 'another form'"
    ):
        spoilt.frames()


def test_missing_files_are_named(spoilt):
    (spoilt.folder / "steps.parquet").unlink()
    with pytest.raises(CollectError, match=r"uniform seed 0: missing steps\.parquet in .*uniform/seed0/remedies"):
        spoilt.frames()


def test_remedies_read_on_other_images_cannot_be_paired(spoilt):
    path = spoilt.folder / "steps.parquet"
    pl.read_parquet(path).with_columns(pl.col("image") + 1).write_parquet(path)
    record_again(path.parent)
    with pytest.raises(CollectError, match="reconstructed other images than uniform seed 0"):
        spoilt.frames()


def test_evaluations_are_in_the_column_of_their_setting(study):
    params = load_study(study.study)
    found = collect_remedies(params, collect_runs(params, study.results / "runs"))
    evaluations = load_evaluations(found)
    steps = pl.read_parquet(study.results / "runs/uniform_short/seed1/remedies/steps.parquet")
    mine = steps.filter(remedy="together", order="replacement", step=8).sort("image")
    column = evaluations.columns["uniform_short", 1, "replacement", "together", 8]
    np.testing.assert_array_equal(evaluations.mse[:, column], mine["mse"].cast(pl.Float64))
    assert evaluations.of("uniform_short", "replacement", "together", 7) is None


def test_one_seed_has_effects_and_no_intervals(tmp_path):
    runs = {name: DIGITS_RUNS[name] for name in ("uniform", "uniform_short", "adaptive")}
    values = study_values(
        runs, evaluation={"images": 4, "max_length_ratio": 2, "length_ratios": [2]}, claims={"far_length_ratios": [2]}
    )
    study_json, results = make_study(tmp_path, values | VALUES | {"seeds": [0]})
    params = load_study(study_json)
    frames = remedy_frames(params, collect_runs(params, results / "runs"))
    differences = frames["remedies_differences"]
    assert differences["effect"].null_count() == 0
    assert differences["effect_lo"].null_count() == len(differences)


def test_controls_alone_are_a_study_too(tmp_path):
    """No remedy listed: the controls are drawn and told."""
    runs = {name: DIGITS_RUNS[name] for name in ("uniform", "uniform_short", "adaptive")}
    values = study_values(
        runs, evaluation={"images": 4, "max_length_ratio": 2, "length_ratios": [2]}, claims={"far_length_ratios": [2]}
    )
    study_json, results = make_study(tmp_path, values | VALUES | {"remedies": []})
    evaluate(study_json, results, tmp_path / "frames")
    drawn = [name for name in figures_of(load_study(study_json)) if name.startswith("remedies")]
    assert drawn == ["remedies", "remedies_retention"]
    draw_some(drawn, study_json, tmp_path / "frames", tmp_path / "figures")
    write_report(study_json, tmp_path / "frames", tmp_path / "figures", tmp_path)
    assert "| freeze | freeze |" in (tmp_path / "details.md").read_text()

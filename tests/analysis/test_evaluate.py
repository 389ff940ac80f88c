import json
import math
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from lgmamba.analysis import frames_of
from lgmamba.analysis.collect import CollectError, collect_runs, load_study
from lgmamba.analysis.evaluate import evaluate
from lgmamba.analysis.panel import collect_panel, read_panel
from tests.records import record_again


def frame(study, name: str) -> pl.DataFrame:
    return pl.read_parquet(study.frames / f"{name}.parquet")


def test_all_frames_are_written_and_nothing_else(study):
    assert {path.name for path in study.frames.iterdir()} == {*frames_of(load_study(study.study)), "record.json"}


def test_a_second_evaluation_gives_the_same_frames(study, tmp_path):
    evaluate(study.study, study.results, tmp_path)
    for name in frames_of(load_study(study.study)):
        assert (tmp_path / name).read_bytes() == (study.frames / name).read_bytes(), name


def test_curves_are_means_before_the_logarithm(study):
    steps = pl.read_parquet(study.results / "runs/uniform/seed1/evaluation/steps.parquet")
    mine = steps.filter(mode="prefix", order="permutation", method="model", step=8)["mse"].cast(pl.Float64)
    row = frame(study, "curves").filter(run="uniform", seed=1, mode="prefix", method="model", step=8).row(0, named=True)
    assert row["mse"] == pytest.approx(mine.mean(), rel=1e-6)  # single precision per image
    assert row["psnr"] == pytest.approx(-10 * math.log10(mine.mean()), rel=1e-6)
    assert (row["study"], row["n_images"], row["n_repeats"]) == ("synthetic", 40, 2)


def test_summary_spans_the_seeds(study):
    psnr = frame(study, "curves").filter(run="fixed_8", mode="prefix", method="model", step=8)["psnr"]
    row = frame(study, "summary").filter(run="fixed_8", mode="prefix", method="model", step=8).row(0, named=True)
    assert (row["psnr"], row["psnr_lo"], row["psnr_hi"]) == (pytest.approx(psnr.mean()), psnr.min(), psnr.max())
    assert row["n_seeds"] == 2


def test_retention_is_a_mean_over_seeds(study):
    paths = [study.results / f"runs/fixed_8/seed{s}/evaluation/retention.parquet" for s in (0, 1)]
    both = [pl.read_parquet(p).filter(mode="prefix", method="model", step=8, age=3)["mse"].item() for p in paths]
    row = (
        frame(study, "retention").filter(run="fixed_8", mode="prefix", method="model", step=8, age=3).row(0, named=True)
    )
    assert row["mse"] == pytest.approx(np.mean(both))
    assert (row["mse_lo"], row["mse_hi"]) == (min(both), max(both))


def test_the_envelope_compares_the_adaptive_run_with_generalist_and_specialists(study):
    envelope = frame(study, "envelope")
    at = {(row["role"], row["step"]): row["psnr"] for row in envelope.to_dicts()}
    adaptive = envelope.filter(role="adaptive")
    assert envelope.filter(pl.col("gain").is_not_null())["role"].unique().to_list() == ["adaptive"]
    for row in adaptive.to_dicts():
        assert row["gain"] == pytest.approx(at["adaptive", row["step"]] - at["generalist", row["step"]], abs=1e-6)
        assert row["gain_lo"] <= row["gain"] <= row["gain_hi"]
    beside = adaptive.drop_nulls("beside")
    assert beside["step"].to_list() == [2, 4, 8, 16]  # lengths with a specialist
    for row in beside.to_dicts():
        assert row["beside"] == pytest.approx(at["adaptive", row["step"]] - at["specialist", row["step"]], abs=1e-6)
        assert row["lead"] == pytest.approx(at["specialist", row["step"]] - at["generalist", row["step"]], abs=1e-6)
    assert set(envelope.filter(role="specialist")["run"]) == {"fixed_2", "fixed_4", "fixed_8", "fixed_16"}


def test_degradation_starts_at_zero(study):
    degradation = frame(study, "degradation")
    assert degradation.filter(pl.col("factor") == 1)["delta"].to_list() == [0.0] * 7
    assert degradation["factor"].min() == 1


def test_regret_is_what_a_run_trained_at_that_length_is_ahead(study):
    regret, curves = frame(study, "regret"), frame(study, "curves")
    at = curves.filter(mode="prefix", method="model", order="permutation")
    assert set(regret.filter(run="uniform")["step"]) == {2, 4, 8, 16}
    assert set(regret.filter(run="fixed_4")["step"]) == {2, 8, 16}  # not of itself
    for row in regret.iter_rows(named=True):
        assert row["against"] == f"fixed_{row['step']}"
        sides = [at.filter(run=run, step=row["step"]).sort("seed")["psnr"] for run in (row["against"], row["run"])]
        assert row["regret"] == pytest.approx((sides[0] - sides[1]).mean(), abs=1e-9)
        assert row["regret_lo"] < row["regret"] < row["regret_hi"]
    beside = frame(study, "figure_curves").filter(run="adaptive").drop_nulls("regret")
    assert beside.select("step", "regret").rows() == regret.filter(run="adaptive").select("step", "regret").rows()
    assert frame(study, "degradation").filter(run="fixed_4").drop_nulls("regret")["step"].to_list() == [8, 16]


def test_lengths_are_laws(study):
    sums = frame(study, "lengths").group_by("run").agg(pl.col("probability").sum())
    np.testing.assert_allclose(sums["probability"], 1, rtol=1e-12)


def test_runs_say_what_was_used(study):
    runs = frame(study, "runs")
    assert len(runs) == 14
    assert runs["git"][0] == "0123456789ab"
    assert runs["versions"][0] == "torch 2.13.0, polars 2.1.0"
    assert runs["peak_gpu_mb"].null_count() == 14


def test_drawn_frames_have_the_rows_of_their_figure(study):
    curves = frame(study, "figure_curves")
    assert curves.filter(at_L0=True)["run"].to_list() == [
        "fixed_2",
        "fixed_4",
        "fixed_8",
        "fixed_16",
        "uniform",
        "uniform_short",
        "adaptive",
    ]
    assert curves.filter(pl.col("run").is_null())["method"].unique().sort().to_list() == ["mean_image", "paste"]
    assert curves["psnr"].is_finite().all()
    bins = frame(study, "figure_retention").select("age_low", "age_high").unique().sort("age_low").rows()
    assert bins == [(-1, -1), (0, 0), (1, 2), (3, 6), (7, 14), (15, 30)]
    gallery = frame(study, "figure_gallery")
    assert gallery.filter(run="fixed_4", beyond=False)["step"].max() == 4
    assert gallery["image"].n_unique() == 2
    law = frame(study, "figure_lengths").filter(distribution="uniform 1\u201316")
    assert law["runs"].unique().to_list() == ["uniform,adaptive"]


def test_binned_retention_keeps_the_mean(study):
    """Octaves are means weighted by cells, so that their weighted mean is that of the ages."""
    ages = frame(study, "retention").filter(run="uniform", mode="prefix", method="model", step=16)
    octaves = frame(study, "figure_retention").filter(run="uniform", step=16)

    def mean(rows: pl.DataFrame) -> float:
        return (rows["mse"] * rows["count"]).sum() / rows["count"].sum()

    assert mean(ages) == pytest.approx(mean(octaves))


def test_panel_survives_the_disk_and_knows_its_pixels(study):
    panel = read_panel(study.frames / "panel.safetensors")
    source = study.results / "runs/uniform/seed0/evaluation/panel.safetensors"
    from safetensors.numpy import load_file

    raw = load_file(source)
    at = raw["steps"].tolist().index(8)
    np.testing.assert_array_equal(
        panel.reconstruction("uniform", 8, 1), raw["reconstructions"][at, 1].astype(np.float32) / 255
    )
    assert panel.psnr("uniform", 8, 1) == pytest.approx(-10 * math.log10(raw["mse"][at, 1]))
    assert panel.mask(8, 0).sum() == 8 * 4  # eight cells of 2 x 2 pixels
    assert panel.ages(8, 0)[panel.cell_mask(raw["cells"][0, 7])].tolist() == [0] * 4  # read at the step itself
    assert panel.ages(19, 0)[panel.cell_mask(raw["cells"][0, 4])].max() <= 14  # again since, or 14 steps ago
    assert set(panel.ages(8, 0).flat) == {-1, *range(8)}
    first = np.zeros((8, 8), dtype=bool)
    first[2:4, 4:6] = True
    np.testing.assert_array_equal(panel.cell_mask(6), first)  # row 1, column 2 of a 4 x 4 grid
    with pytest.raises(ValueError, match="the panel has no step 401; it has 1 to 400"):
        panel.mask(401, 0)


def test_panel_has_every_picture_that_figures_draw_and_the_steps_between(study):
    params, panel = load_study(study.study), read_panel(study.frames / "panel.safetensors")
    assert list(panel.strips) == list(params.runs)
    assert panel.steps == params.panel_steps()
    drawn = [frame(study, f"figure_{name}").drop_nulls("run") for name in ("task", "gallery")]
    for run, step, image in {tile for rows in drawn for tile in rows.select("run", "step", "image").rows()}:
        assert panel.reconstruction(run, step, image).shape == (1, 8, 8)
    with pytest.raises(ValueError, match="the panel has no picture of image 5 by uniform at step 8"):
        panel.reconstruction("uniform", 8, 5)


def test_panels_of_other_images_are_refused(fresh):
    from safetensors.numpy import load_file, save_file

    path = fresh.results / "runs/uniform/seed0/evaluation/panel.safetensors"
    arrays = load_file(path)
    save_file(arrays | {"images": arrays["images"] + 1}, path)
    record_again(path.parent)
    with pytest.raises(CollectError, match="uniform seed 0: its panel shows other images"):
        evaluate(fresh.study, fresh.results, fresh.frames)


def test_a_run_that_reads_other_patches_has_no_pictures_beside_the_others(study):
    params = load_study(study.study)
    folders = collect_runs(params, study.results / "runs")
    fine = [
        replace(f, config=f.config.model_copy(update={"task": f.config.task.model_copy(update={"patch_size": 1})}))
        if f.run == "uniform"
        else f
        for f in folders
    ]
    assert {*params.runs} - {*collect_panel(fine, "fixed_2").strips} == {"uniform"}
    assert {*collect_panel(fine, "uniform").strips} == {"uniform"}


def test_contrasts_are_those_of_the_curves(study):
    """Recomputed from the curves alone, with nothing of this package."""
    curves = frame(study, "curves").filter(mode="prefix", order="permutation", method="model")

    def psnr(run: str, seed: int, step: int) -> float:
        return curves.filter(run=run, seed=seed, step=step)["psnr"].item()

    found = {row["name"]: row for row in frame(study, "contrasts").iter_rows(named=True)}
    assert list(found) == ["C1", "C4"]
    fall = [psnr("uniform", s, 32) - psnr("uniform", s, 16) for s in (0, 1)]
    assert found["C1"]["per_seed"] == pytest.approx(fall, abs=1e-9)
    lengths = (1, 2, 4, 8, 16)
    gain = [np.mean([psnr("adaptive", s, T) - psnr("uniform", s, T) for T in lengths]) for s in (0, 1)]
    assert found["C4"]["per_seed"] == pytest.approx(gain, abs=1e-9)
    assert found["C4"]["effect"] == pytest.approx(np.mean(gain), abs=1e-9)
    plain = json.loads((study.frames / "contrasts.json").read_text())
    assert plain["C4"] == {key: found["C4"][key] for key in ("verdict", "effect", "lo", "hi", "n_seeds")}


def test_without_retention_maps_and_other_seeds_pictures_the_rest_is_the_same(study, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(study.results, results)
    for path in (
        *results.glob("runs/*/seed*/evaluation/retention.parquet"),
        *results.glob("runs/*/seed1/evaluation/panel.safetensors"),
    ):
        path.unlink()
    with pytest.raises(CollectError, match=r"uniform seed 1: missing retention\.parquet in "):
        evaluate(study.study, results, tmp_path / "frames")
    values = json.loads(study.study.read_text())
    values["report"]["retention"] = "none"
    (tmp_path / "study.json").write_text(json.dumps(values))
    evaluate(tmp_path / "study.json", results, tmp_path / "frames")
    without = {path.name for path in (tmp_path / "frames").iterdir()}
    assert {path.name for path in study.frames.iterdir()} - without == {"retention.parquet", "figure_retention.parquet"}
    for name in ("curves", "contrasts", "figure_gallery", "remedies_retention"):
        assert pl.read_parquet(tmp_path / f"frames/{name}.parquet").equals(frame(study, name)), name
    (results / "runs/uniform/seed0/evaluation/panel.safetensors").unlink()
    with pytest.raises(CollectError, match=r"uniform seed 0: missing panel\.safetensors in "):
        evaluate(tmp_path / "study.json", results, tmp_path / "again")

"""Errors of single images: what is kept of them, and levels and verdicts that are found again from them alone."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from lgmamba.analysis import FOR_READERS, image_errors, kept_frames
from lgmamba.analysis.collect import CollectError, collect_runs, load_study
from lgmamba.analysis.evaluate import evaluate
from lgmamba.analysis.files import write_frame
from lgmamba.analysis.image_errors import DIGITS, Setting, image_error_frames, images_frame, settings_of, shortened
from lgmamba.analysis.kept import keep
from lgmamba.config.study import Params, load_params
from lgmamba.probe.reconstruct import MANTISSA, rounded
from tests.analysis.conftest import evaluated
from tests.analysis.synthetic_remedies import VALUES
from tests.analysis.synthetic_study import PRIMARY, study_values
from tests.records import record_again

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow/scripts"))
recompute = __import__("recompute")
sys.path.remove(str(ROOT / "workflow/scripts"))

REMEDY = {
    "name": "C6",
    "claim": "A remedy beats the controls beyond the training lengths",
    "of": {"run": "uniform", "at": "25 L0", "remedy": "clip"},
    "minus": {"run": "uniform", "at": "25 L0", "best_of": ["truncate", "reset"]},
    "claimed": "above",
}
BASELINE = {
    "name": "C2",
    "claim": "A specialist draws worse than the mean image before its length",
    "of": {"run": "fixed_16", "at": "L0 / 4"},
    "minus": {"run": "fixed_16", "at": "L0 / 4", "method": "mean_image"},
    "claimed": "below",
}


@pytest.fixture(scope="module")
def claimed(tmp_path_factory) -> SimpleNamespace:
    """A study whose contrasts are about runs as they are, a baseline, and remedies."""
    values = study_values() | VALUES
    values["claims"]["primary"] = [*PRIMARY, BASELINE, REMEDY]
    return evaluated(tmp_path_factory, "claimed", values)


def kept(study: SimpleNamespace, folder: Path) -> Path:
    """A folder of reports with the frames that the study keeps."""
    params = load_study(study.study)
    keep(params, (*kept_frames(params), *FOR_READERS), "evaluate", study.frames, folder / "frames")
    return folder


def sampled(study: SimpleNamespace, folder: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> Path:
    """The same of at most n images."""
    folder, params = kept(study, folder), load_study(study.study)
    monkeypatch.setattr(image_errors, "SAMPLE", n)
    for name, frame in image_error_frames(params, collect_runs(params, study.results / "runs")).items():
        frame.write_parquet(folder / "frames" / f"{name}.parquet")
    return folder


def test_every_setting_that_a_contrast_needs_is_there_once_and_no_other(claimed):
    rows = pl.read_parquet(claimed.frames / "image_errors.parquet")
    found = set(rows.select("stage", "run", "method", "step").unique().rows())
    assert len(rows) == 2 * len(found)  # two trainings
    steps = {"uniform": {1, 2, 4, 8, 16, 32}, "adaptive": {1, 2, 4, 8, 16}, "fixed_16": {4}}
    expected = {("reconstruct", run, "model", step) for run, of_run in steps.items() for step in of_run}
    expected |= {("reconstruct", "fixed_16", "mean_image", 4)}
    assert found == expected | {("remedy", "uniform", method, 400) for method in ("clip", "truncate", "reset")}
    assert set(rows["order"]) == {"permutation"} and set(rows["error"]) == {"mse"}


def test_an_error_is_that_of_its_image(claimed):
    steps = pl.read_parquet(claimed.results / "runs/uniform/seed1/evaluation/steps.parquet")
    steps = steps.filter(mode="prefix", method="model", step=32).with_columns(pl.col("mse").cast(pl.Float64))
    rows = pl.read_parquet(claimed.frames / "image_errors.parquet").filter(run="uniform", seed=1, step=32)
    images = pl.read_parquet(claimed.frames / "image_errors_of.parquet").filter(stage="reconstruct")
    assert images["place"].to_list() == list(range(40)) and images["image"].to_list() == list(range(100, 140))
    for place, image in images.select("place", "image").rows():
        mine = steps.filter(image=image)["mse"].mean()
        assert rows["errors"].item()[place] == pytest.approx(mine, rel=2.0 ** -(DIGITS + 1))


def test_what_was_measured_is_kept_to_the_bit():
    measured = rounded(np.random.default_rng(0).lognormal(-4, 3, 10000).astype(np.float32))
    assert DIGITS == MANTISSA
    np.testing.assert_array_equal(shortened(measured.astype(np.float64)), measured)
    np.testing.assert_array_equal(shortened(np.array([0.0, np.inf, 1.0])), [0.0, np.inf, 1.0])
    between = np.float64(1) + 2.0**-DIGITS * np.array([0.4, 0.6])
    np.testing.assert_array_equal(shortened(between), [1.0, 1 + 2.0**-DIGITS])


def test_a_study_without_contrasts_keeps_four_lengths_of_every_run():
    params = Params.model_validate(study_values(claims={"primary": []}))
    assert {s.step for s in settings_of(params) if s.run == "fixed_8"} == {2, 8, 32, 200}
    assert {s.run for s in settings_of(params)} == set(params.runs)


def test_accuracies_and_shares_of_a_lead_are_settings_of_their_own():
    params = load_params(ROOT / "params.yaml", "classified_digits")
    null, found = params.task.NULL, settings_of(params)
    L0, order = params.runs_by_name()["uniform_w60"].L0, params.evaluation.orders[0]
    for method, step in (("model", 4 * L0), ("model", L0), (null, L0)):  # share of the lead over what knows nothing
        for error in ("mse", "error_rate"):
            assert Setting("reconstruct", "uniform_w60", method, "prefix", order, step, error) in found
    assert Setting("reconstruct", "uniform_w0", "model", "prefix", order, L0, "mse") in found
    assert Setting("reconstruct", "uniform_w0", "model", "prefix", order, L0, "error_rate") not in found
    remedied = {(s.run, s.method, s.error) for s in found if s.stage == "remedy" and s.step == 25 * L0}
    assert {("uniform_w0", "dt_layer_zo", "error_rate"), ("uniform_w100", "vanilla", "mse")} <= remedied


def test_refitted_read_outs_have_no_errors_by_image():
    params = load_params(ROOT / "params.yaml", "read_outs")
    assert any(contrast.of.read_out for contrast in params.claims.primary)
    assert not {"refitted", "trained"} & {setting.method for setting in settings_of(params)}


def test_nothing_is_said_from_images_of_refitted_read_outs(tmp_path):
    folder = tmp_path / "read_outs"
    shutil.copytree(ROOT / "reports/read_outs/frames", folder / "frames")
    for name, frame in (("image_errors", image_errors.errors_frame([])), ("image_errors_of", images_frame({}))):
        write_frame(frame, folder / f"frames/{name}.parquet")
    assert recompute.levels_again(folder).is_empty() and recompute.recomputed_by_image(folder) == {}


def test_errors_of_those_that_name_a_class_are_kept_and_of_no_others(tmp_path):
    """A method that names none, and a run whose frame has no such column, have no row."""
    wrong = np.random.default_rng(0).integers(0, 2, 30).astype(np.float32)
    keys = {"mode": "prefix", "order": "o", "repeat": 0, "step": 4, "run": "r"}
    rows = pl.DataFrame({"image": range(30), "error_rate": wrong}).with_columns(
        *(pl.lit(value).alias(name) for name, value in keys.items()), method=pl.lit("model"), mse=pl.lit(0.1)
    )
    nameless = rows.with_columns(method=pl.lit("mean_image"), error_rate=pl.lit(None, pl.Float32))
    path = tmp_path / "steps.parquet"
    pl.concat([rows, nameless]).write_parquet(path)
    settings = [
        Setting("reconstruct", "r", method, "prefix", "o", 4, "error_rate") for method in ("model", "mean_image")
    ]
    (row,) = image_errors._errors_of(path, settings, "error_rate").to_dicts()
    assert (row["method"], row["n_images"], row["errors"]) == ("model", 30, wrong.tolist())
    rows.drop("error_rate").write_parquet(path)
    assert image_errors._errors_of(path, settings, "error_rate").is_empty()


def test_trainings_on_other_images_are_refused(fresh):
    path = fresh.results / "runs/adaptive/seed1/evaluation/steps.parquet"
    frame = pl.read_parquet(path)
    others = pl.when(pl.col("mode") == "prefix", pl.col("method") == "model").then(pl.col("image") + 1)
    frame.with_columns(image=others.otherwise("image")).write_parquet(path)
    record_again(path.parent)
    params = load_study(fresh.study)
    with pytest.raises(CollectError, match="adaptive seed 1: `lgmamba reconstruct` read other images"):
        image_error_frames(params, collect_runs(params, fresh.results / "runs"))


def test_levels_and_verdicts_are_found_again_from_single_images(claimed, tmp_path):
    folder = kept(claimed, tmp_path)
    levels = recompute.levels_again(folder)
    assert len(levels) == len(pl.read_parquet(claimed.frames / "image_errors.parquet")) and levels["found"].all()
    assert levels["off"].max() <= levels["rounding"].max() < 6e-4 and levels["error"].max() == 0
    said = {row["name"]: row for row in pl.read_parquet(claimed.frames / "contrasts.parquet").to_dicts()}
    found = recompute.recomputed_by_image(folder)
    assert list(found) == ["C1", "C4", "C2", "C6"]
    for name, row in found.items():
        assert row["effect"] == pytest.approx(said[name]["effect"], abs=1e-3)
        assert recompute.differing(said[name], row, within=0.01) == []  # 12.7 times the rounding, for two trainings
        assert row["by_image"] > 0
    # How hard an image is, is of both sides: 0.29 dB of each, 40 images; what is left is 5 % of noise, 2 sequences, 2 trainings: 0.024 dB
    assert found["C1"]["by_image"] < 0.05 and found["C2"]["by_image"] < 0.05


def test_the_jackknife_is_the_standard_error_of_a_mean_over_images(claimed, tmp_path):
    """Of one side alone, where the other does not depend on the image, it is that of PSNR: 10 / ln 10 relative errors."""
    folder = kept(claimed, tmp_path)
    path = folder / "frames/image_errors.parquet"
    rows = pl.read_parquet(path)
    constant = pl.when(pl.col("method") == "mean_image").then(
        pl.col("errors").list.eval(pl.element().mean().repeat_by(40).explode())
    )
    rows.with_columns(errors=constant.otherwise("errors")).write_parquet(path)
    errors = np.array(rows.filter(run="fixed_16", method="model")["errors"].to_list(), dtype=float)
    relative = (errors / errors.mean(1, keepdims=True)).mean(0)
    expected = 10 / np.log(10) * relative.std(ddof=1) / 40**0.5
    assert recompute.recomputed_by_image(folder)["C2"]["by_image"] == pytest.approx(expected, rel=0.5)


def test_one_changed_error_or_level_is_found(claimed, tmp_path):
    folder = kept(claimed, tmp_path)
    path = folder / "frames/image_errors.parquet"
    rows = pl.read_parquet(path)
    first = pl.int_range(pl.len()) == 0
    changed = pl.when(first).then(
        pl.col("errors").list.eval(
            pl.when(pl.int_range(pl.len()) == 3).then(pl.element() * 1.1).otherwise(pl.element())
        )
    )
    rows.with_columns(errors=changed.otherwise("errors")).write_parquet(path)
    assert (~recompute.levels_again(folder)["found"]).sum() == 1


def with_first(rows: pl.DataFrame, **changes: object) -> pl.DataFrame:
    first, *others = rows.to_dicts()
    return pl.DataFrame([first | changes, *others], schema=rows.schema)


def with_error(rows: pl.DataFrame, error: float | None) -> pl.DataFrame:
    return with_first(rows, errors=[rows["errors"][0][0], error, *rows["errors"][0][2:]])


WHOLE = "image_errors_of, stage reconstruct: found other rows than the first of a split, one after the other"
DAMAGE = {
    "one changed error": (
        "",
        lambda rows: with_error(rows, rows["errors"][0][1] * 1.0001),
        "at place 1, expected a number",
    ),
    "an error that is none": ("", lambda rows: with_error(rows, None), "found None at place 1, expected a number"),
    "an error below 0": ("", lambda rows: with_error(rows, -0.5), "found -0.5 at place 1, expected a number >= 0"),
    "an error left out": (
        "",
        lambda rows: with_first(rows, errors=rows["errors"][0][1:]),
        "found 39 errors, expected 40",
    ),
    "a row left out": ("", lambda rows: rows[1:], "mse: its row is missing"),
    "a row twice": ("", lambda rows: pl.concat([rows, rows[:1]]), "mse: found 2 rows, expected one"),
    "of other settings": ("", lambda rows: with_first(rows, run="other"), "run other, seed 0, "),
    "of more images": ("", lambda rows: with_first(rows, n_images=50), "found n_images [40, 50], expected one number"),
    "another image": ("_of", lambda of: with_first(of, image=7), WHOLE),
    "an image left out": ("_of", lambda of: of[:-1], "errors, expected"),
    "no images": ("_of", lambda of: of[:0], "errors, expected 0"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_frames_of_errors_that_were_damaged_are_told(claimed, tmp_path, what):
    folder = kept(claimed, tmp_path)
    assert recompute.flaws(folder) == []
    name, damage, expected = DAMAGE[what]
    path = folder / f"frames/image_errors{name}.parquet"
    write_frame(damage(pl.read_parquet(path)), path)
    assert any(expected in flaw for flaw in recompute.flaws(folder)), recompute.flaws(folder)


def test_one_of_the_two_frames_alone_is_told(claimed, tmp_path):
    folder = kept(claimed, tmp_path)
    (folder / "frames/image_errors_of.parquet").unlink()
    assert recompute.flaws(folder) == ["image_errors_of.parquet is missing"]


@pytest.mark.parametrize(
    "damage, expected",
    [
        (
            lambda rows: rows.filter(pl.col("step") != rows["step"][0]),
            "from images: errors of 0 trainings, of 5 expected",
        ),
        (lambda rows: rows[:0], "from images: errors of 0 trainings, of 5 expected"),
        (lambda rows: rows[1:], "its row is missing"),
        (
            lambda rows: with_error(rows, rows["errors"][0][1] * 2**10),
            "not found again: run encoder_decoder_128, seed 0",
        ),
    ],
    ids=["a setting left out", "no rows", "a row left out", "another error"],
)
def test_damaged_frames_are_an_exit_status(tmp_path, monkeypatch, capsys, damage, expected):
    study = ROOT / "reports/transformer_omniglot"
    shutil.copytree(study / "frames", tmp_path / study.name / "frames")
    shutil.copy(study / "headline.json", tmp_path / study.name)
    monkeypatch.setattr(recompute, "REPORTS", tmp_path)
    path = tmp_path / study.name / "frames/image_errors.parquet"
    write_frame(damage(pl.read_parquet(path)), path)
    recompute.levels_by_image.cache_clear()
    assert recompute.main([]) == 1 and expected in capsys.readouterr().out


def test_a_sample_gives_levels_within_its_standard_error(claimed, tmp_path, monkeypatch):
    folder = sampled(claimed, tmp_path, monkeypatch, 15)
    rows = pl.read_parquet(folder / "frames/image_errors.parquet")
    assert set(rows["errors"].list.len()) == {15} and set(rows["n_images"]) == {20, 40}
    whole = pl.read_parquet(claimed.frames / "image_errors.parquet")
    assert rows["errors"].to_list() == whole["errors"].list.head(15).to_list()
    assert recompute.flaws(folder) == []
    levels = recompute.levels_again(folder)
    assert levels["found"].all() and levels["off"].max() > 0.01
    assert (levels["off"] / levels["error"]).max() < recompute.FAR
    assert "standard errors of its mean" in recompute.told_of_levels(levels)


def test_frames_without_errors_by_image_are_as_they_were(claimed, tmp_path):
    folder = kept(claimed, tmp_path)
    before = recompute.recomputed(folder)
    for name in FOR_READERS:
        (folder / "frames" / name).unlink()
    assert recompute.levels_again(folder).is_empty() and recompute.recomputed_by_image(folder) == {}
    assert recompute.recomputed(folder) == before


def test_the_frame_is_small(claimed, tmp_path):
    """No more than the two bytes of a float16 for each error."""
    values = study_values()
    values["evaluation"] |= {"images": 400, "repeats": 1, "length_ratios": [2], "max_length_ratio": 2}
    values["claims"]["far_length_ratios"] = [2]
    from tests.analysis.synthetic_study import make_study

    study_json, results = make_study(tmp_path, values)
    evaluate(study_json, results, tmp_path / "frames")
    path = tmp_path / "frames/image_errors.parquet"
    assert path.stat().st_size < 2 * pl.read_parquet(path)["errors"].list.len().sum() + 4096
    assert json.loads((tmp_path / "frames/record.json").read_text())["files"].keys() >= set(FOR_READERS)

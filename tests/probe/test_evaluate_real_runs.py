"""What training and probe write is what the analysis reads."""

import json
import shutil

import polars as pl
import pytest

from lgmamba.analysis import frames_of
from lgmamba.analysis.collect import CollectError, collect_runs
from lgmamba.analysis.evaluate import evaluate
from lgmamba.analysis.panel import read_panel
from tests.records import record_again


@pytest.fixture(scope="module")
def frames(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("frames")
    evaluate(study.layout.study, study.root / "results", out)
    return out


def test_a_real_study_is_evaluated_to_every_frame(study, frames):
    assert {p.name for p in frames.iterdir()} == {*frames_of(study.params), "record.json"}
    runs = pl.read_parquet(frames / "runs.parquet")
    assert sorted(runs.select("run", "seed").rows()) == sorted(study.params.run_configs())
    contrasts = json.loads((frames / "contrasts.json").read_text())
    assert list(contrasts) == [contrast.name for contrast in study.params.claims.primary]


def test_the_curves_are_the_mean_of_the_errors_that_the_probe_wrote(study, frames):
    curves = pl.read_parquet(frames / "curves.parquet")
    here = curves.filter(run="told", seed=0, method="model", mode="prefix", order="permutation").sort("step")
    errors = study.frame("told").filter(method="model", mode="prefix", order="permutation")
    expected = errors.group_by("step").agg(pl.col("mse").cast(pl.Float64).mean()).sort("step")
    assert here["step"].to_list() == expected["step"].to_list()
    # the mean over images and repeats, summed in another order
    assert here["psnr"].to_list() == pytest.approx((-10 * expected["mse"].log10()).to_list(), abs=1e-6)


def test_the_pictures_of_all_runs_are_gathered(study, frames):
    panel = read_panel(frames / "panel.safetensors")
    assert set(panel.strips) == set(study.params.runs)
    assert panel.images.tolist() == study.rows(6).tolist()


def test_a_probe_of_an_older_checkpoint_is_refused(study, tmp_path):
    runs = shutil.copytree(study.root / "results" / "runs", tmp_path / "runs")
    about = runs / "plain" / "seed0" / "train" / "train.json"
    values = json.loads(about.read_text())
    about.write_text(json.dumps(values | {"checkpoint_digest": "0" * 64}))
    record_again(about.parent)
    with pytest.raises(CollectError, match=r"plain seed 0: reconstructed with checkpoint .*, but train/ holds 0{12};"):
        collect_runs(study.params, runs)

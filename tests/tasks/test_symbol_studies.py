"""Studies of symbols go from their configuration to a report in accuracy, with remedies and the controls that make sense."""

import json

import polars as pl
import pytest
import torch

from lgmamba.analysis import figures_of, frames_of
from lgmamba.analysis.evaluate import evaluate
from lgmamba.config.files import (
    EvaluationFile,
    Layout,
    RemedyFile,
    evaluation_files,
    read_config,
    remedy_files,
    write_config_files,
)
from lgmamba.config.overlays import merge
from lgmamba.config.run import RunConfig
from lgmamba.config.study import load_params
from lgmamba.data.build import build_dataset
from lgmamba.figures import draw
from lgmamba.probe.reconstruct import reconstruct
from lgmamba.probe.remedy import try_remedies
from lgmamba.report import write_report
from lgmamba.track import NullTracker
from lgmamba.train.loop import train
from tests.figures.thumbnails import thumbnails
from tests.workflow.checkouts import ROOT

SMALL = {
    "data": {"source": {"kind": "none", "samples": 120}},
    "task": {"lengths": {"kind": "uniform", "low": 4, "high": 8}},
    "model": {"d_model": 8, "n_layer": 1, "mixer": {"d_state": 4}},
    "train": {"steps": 10, "batch_size": 8, "warmup_steps": 5, "log_every": 5, "validate_every": 10},
    "runs": {"mamba_16": {}},
    "seeds": [0],
    "evaluation": {"images": 30, "max_length_ratio": 4, "length_ratios": [2], "batch_images": 30, "chunk": 8},
    "claims": {"far_length_ratios": [2, 4]},
    "remedy_evaluation": {
        "length_ratios": [1, 4],
        "images": 10,
        "calibration": {"images": 4, "steps": 1, "lengths": [4]},
    },
    "outputs": {"data": "data", "results": "results", "reports": "reports"},
}
ORDERS = {
    "mqar": {"evaluation": {"orders": ["gap", "load"]}, "remedy_evaluation": {"orders": ["gap", "load"]}},
    "automaton": {},
}
CONTROLS = {"mqar": ["truncate", "reset", "subset_random", "freeze"], "automaton": ["freeze"]}
UNITS = {"mqar": "Accuracy (%)", "automaton": "Scaled accuracy (%)"}


@pytest.fixture(scope="module", params=ORDERS)
def study(request, tmp_path_factory):
    """A preset at its smallest, all of it."""
    root, cpu = tmp_path_factory.mktemp(request.param), torch.device("cpu")
    changes = merge(SMALL, ORDERS[request.param])
    params = load_params(ROOT / "params.yaml", preset=request.param, overrides=changes)
    write_config_files(params, root)
    layout = Layout(root / "results")
    build_dataset(params.data, [], root / "data", workers=1)
    home = layout.run_dir("mamba_16", 0)
    train(read_config(home / "run.json", RunConfig), root / "data", home / "train", home / "work", cpu, NullTracker())
    reconstruct(
        read_config(home / "evaluation.json", EvaluationFile), home / "train", root / "data", home / "evaluation", cpu
    )
    remedy = read_config(home / "remedy.json", RemedyFile)
    try_remedies(remedy, home / "train", root / "data", home / "remedies", None, None, cpu)
    evaluate(layout.study, root / "results", layout.frames)
    with thumbnails(laid_out=False):
        for figure in figures_of(params):
            draw(figure, layout.study, layout.frames, root / "reports/figures")
    write_report(layout.study, layout.frames, root / "reports/figures", root / "reports")
    return request.param, params, layout, root


def test_every_file_is_there_and_none_about_parts_that_steps_do_not_show(study):
    _, params, layout, _ = study
    assert {path.name for path in layout.frames.iterdir()} == {*frames_of(params), "record.json"}
    home = layout.run_dir("mamba_16", 0)
    for stage, files in (("evaluation", evaluation_files(params.task)), ("remedies", remedy_files(params.task))):
        assert {path.name for path in (home / stage).iterdir() if path.is_file()} == {*files, "record.json"}
        assert "retention.parquet" not in files
    assert "remedies" in figures_of(params)
    assert "remedies_retention" not in figures_of(params)


def test_the_controls_are_those_of_the_task(study):
    name, params, layout, _ = study
    about = json.loads((layout.run_dir("mamba_16", 0) / "remedies/remedies.json").read_text())["remedies"]
    assert [row["name"] for row in about if row["control"]] == ["vanilla", *CONTROLS[name], "exact"]
    assert [row["name"] for row in about if not row["control"]] == [entry.name for entry in params.remedies]


def test_levels_are_accuracies(study):
    name, _, layout, _ = study
    curves = pl.read_parquet(layout.frames / "curves.parquet")
    assert set(curves["method"]) == {"model", "chance", "exact"}
    assert curves["psnr"].to_list() == pytest.approx((100 * (1 - curves["mse"])).to_list(), abs=1e-4)
    chance = curves.filter(method="chance")["psnr"].unique().to_list()
    assert chance == [pytest.approx(0 if name == "automaton" else 100 / 16, abs=0.01)]
    exact = curves.filter(pl.col("method") == "exact", pl.col("step") >= 4)["psnr"]
    assert set(exact) == {100.0}


def test_the_report_speaks_of_accuracy_and_shows_every_figure(study):
    name, params, _, root = study
    first, second = ((root / f"reports/{page}.md").read_text(encoding="utf-8") for page in ("report", "details"))
    for figure in figures_of(params):
        assert sum(f"figures/{figure}.png" in page for page in (first, second)) == 1, figure
    assert UNITS[name] in first
    assert " pp" in first and "of a training is at least 90 %, one number a training" in first
    assert "\n| run | L0 | to |\n| --- | ---: | --- |\n| mamba_16 | 8 | " in first
    for word in ("PSNR", " dB", "image", "patch"):
        assert word not in first, word
    assert ("order `load`" in first) == (name == "mqar")
    if name == "automaton":
        assert "`assemble` is not tried: every symbol moves the automaton" in second
    assert set(json.loads((root / "reports/metrics.json").read_text())) == {
        "contrasts",
        params.task.METRICS[0].level,
        f"remedies_{params.task.METRICS[0].level}",
    }

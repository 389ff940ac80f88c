"""A study of a task without images goes from its configuration to its report, and has nothing that is about pictures."""

import polars as pl
import pytest
import torch

from lgmamba.analysis import figures_of, frames_of
from lgmamba.analysis.evaluate import evaluate
from lgmamba.config.base import ConfigError
from lgmamba.config.files import EvaluationFile, Layout, evaluation_files, read_config, write_config_files
from lgmamba.config.run import RunConfig
from lgmamba.config.study import load_params
from lgmamba.data.build import build_dataset
from lgmamba.figures import draw
from lgmamba.probe.reconstruct import reconstruct
from lgmamba.report import write_report
from lgmamba.tasks.regression.theory import Theory
from lgmamba.track import NullTracker
from lgmamba.train.loop import train
from tests.figures.thumbnails import thumbnails
from tests.workflow.checkouts import ROOT

SMALL = {
    "data": {"source": {"kind": "none", "samples": 200}},
    "task": {"lengths": {"kind": "uniform", "low": 1, "high": 6}},
    "model": {"d_model": 8},
    "train": {"steps": 20, "batch_size": 8, "warmup_steps": 5, "log_every": 10, "validate_every": 20},
    "runs": {
        "uniform_6": {},
        "s6_fixed_6": {"task": {"body": "s6", "lengths": {"kind": "fixed", "value": 6}}},
    },
    "seeds": [0],
    "evaluation": {"images": 40, "max_length_ratio": 4, "length_ratios": [2], "batch_images": 16, "chunk": 5},
    "claims": {"comparisons": [], "primary": [], "far_length_ratios": [2, 4]},
    "outputs": {"data": "data", "results": "results", "reports": "reports"},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The preset at its smallest, all of it."""
    root = tmp_path_factory.mktemp("regression")
    params = load_params(ROOT / "params.yaml", preset="regression", overrides=SMALL)
    write_config_files(params, root)
    layout = Layout(root / "results")
    build_dataset(params.data, [], root / "data", workers=1)
    for run, seed in params.run_configs():
        home, cpu = layout.run_dir(run, seed), torch.device("cpu")
        train(
            read_config(home / "run.json", RunConfig), root / "data", home / "train", home / "work", cpu, NullTracker()
        )
        reconstruct(
            read_config(home / "evaluation.json", EvaluationFile),
            home / "train",
            root / "data",
            home / "evaluation",
            cpu,
        )
    evaluate(layout.study, root / "results", layout.frames)
    with thumbnails():
        for figure in figures_of(params):
            draw(figure, layout.study, layout.frames, root / "reports/figures")
    write_report(layout.study, layout.frames, root / "reports/figures", root / "reports")
    return params, layout, root


def test_every_file_is_there_and_none_about_pictures(study):
    params, layout, _ = study
    assert {path.name for path in layout.frames.iterdir()} == {*frames_of(params), "record.json"}
    assert not {"task", "gallery", "retention"} & set(figures_of(params))
    assert "theory" in figures_of(params)
    for run in params.runs:
        files = {path.name for path in (layout.run_dir(run, 0) / "evaluation").iterdir()}
        assert set(evaluation_files(params.task)) == {"evaluation.json", "steps.parquet"}
        assert files == {*evaluation_files(params.task), "record.json"}


def test_errors_are_those_of_the_task_and_the_level_is_of_their_mean(study):
    _, layout, _ = study
    curves = pl.read_parquet(layout.frames / "curves.parquet")
    assert set(curves["method"]) == {"model", "zero", "least_squares"}
    steps = pl.read_parquet(layout.run_dir("uniform_6", 0) / "evaluation/steps.parquet")
    here = steps.filter(mode="prefix", method="model", step=24)["mse"].cast(pl.Float64).mean()
    row = curves.filter(run="uniform_6", mode="prefix", method="model", step=24)
    assert row["mse"].item() == pytest.approx(here)
    assert row["psnr"].item() == pytest.approx(float(10 * torch.tensor(1 / here).log10()), abs=1e-4)


def test_the_figure_of_theory_has_the_theory(study):
    _, layout, _ = study
    frame = pl.read_parquet(layout.frames / "figure_theory.parquet")
    assert set(frame["run"]) == {"s6_fixed_6"}
    said = dict(frame.filter(line="loss").select("step", "error").rows())
    assert said == {step: pytest.approx(Theory(4, 6).loss(step)) for step in said}
    assert set(frame["line"]) == {"model", "loss", "slowed", "windows"}


def test_the_report_shows_every_figure_and_speaks_of_no_image(study):
    params, _, root = study
    pages = [(root / f"reports/{page}.md").read_text(encoding="utf-8") for page in ("report", "details")]
    for figure in figures_of(params):
        assert sum(f"figures/{figure}.png" in page for page in pages) == 1, figure
    assert "image" not in pages[0]
    assert "PSNR" not in pages[0]


def test_a_study_has_one_task_and_images_where_that_needs_them():
    draw = {"kind": "draw", "patch_size": 2, "order": "raster"}
    with pytest.raises(ConfigError, match=r"runs\.uniform_6"):
        load_params(
            ROOT / "params.yaml", preset="regression", overrides=SMALL | {"runs": {"uniform_6": {"task": draw}}}
        )
    digits = {"source": {"kind": "digits"}, "image_size": 8}
    with pytest.raises(ConfigError, match=r"data\.source\.kind: found 'digits', expected: none, for task regression"):
        load_params(ROOT / "params.yaml", preset="regression", overrides=SMALL | {"data": digits})

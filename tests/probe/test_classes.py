"""Accuracy beside PSNR, from the checkpoint to the report, for both tasks that read images."""

from types import SimpleNamespace

import polars as pl
import pytest
import torch

from lgmamba.analysis import figures_of, frames_of
from lgmamba.analysis.evaluate import evaluate
from lgmamba.config.files import RemedyFile, read_config
from lgmamba.config.overlays import merge
from lgmamba.model.runner import run_sequence
from lgmamba.probe.remedy import try_remedies
from lgmamba.report import write_report
from lgmamba.tasks.class_head import parted
from lgmamba.tasks.registry import build_task
from lgmamba.train.checkpoint import load_model
from tests.figures.thumbnails import draw_some
from tests.probe.study import STUDY, small_study
from tests.train.test_class_head import HEAD, QUERIED
from tests.train.tiny import CPU

ACCURATE = {"run": "w1", "at": "2 L0", "metric": "accuracy"}
MINE = {
    "model": HEAD,
    "train": {"steps": 8, "warmup_steps": 2, "log_every": 4, "validate_every": 8, "class_weight": 0, "batch_size": 64},
    "runs": {
        "w0": {},
        "w1": {"train": {"class_weight": 1}},
        "fixed": {"task": {"lengths": {"kind": "fixed", "value": 6}}},
        "fixed_w1": {"task": {"lengths": {"kind": "fixed", "value": 6}}, "train": {"class_weight": 1}},
        "told": {"model": {"adaptive": {"kind": "length_token"}}},
    },
    "seeds": [0],
    "evaluation": {"repeats": 1, "length_ratios": [2], "extra_steps": [], "max_length_ratio": 2, "panel_images": 2},
    "claims": {
        "comparisons": [{"generalist": "w0", "adaptive": "told"}],
        "far_length_ratios": [2],
        "primary": [
            {"name": "A", "claim": "a", "of": ACCURATE, "minus": ACCURATE | {"run": "w0"}, "claimed": "above"},
            {
                "name": "R",
                "claim": "r",
                "of": ACCURATE | {"remedy": "layers"},
                "minus": ACCURATE | {"remedy": "vanilla"},
                "claimed": "above",
            },
        ],
    },
    "remedies": [
        {"name": "layers", "kind": "step_size", "form": "layer", "calibrate": "zeroth_order", "mode": "prefix"},
        {"name": "windows", "kind": "assemble", "mode": "stream"},
    ],
    "remedy_evaluation": {
        "runs": ["w1"],
        "length_ratios": [2],
        "orders": ["permutation"],
        "images": 3,
        "calibration": {"images": 4, "steps": 1, "lengths": [2], "order": "permutation"},
    },
}
ACCURACY_IN = ("curves", "envelope", "degradation", "remedies", "training")
"""Figures that show it, too."""
HEADLESS = {"model": {"latent": None, "class_head": None}, "train": {"class_weight": None}}
KINDS = {
    "draw": {"runs": MINE["runs"] | {"plain": HEADLESS}, "evaluation": {"orders": ["permutation"]}},
    "queried": {
        "task": QUERIED["task"],
        "model": HEAD | QUERIED["model"],
        "evaluation": {"orders": ["uniform"]},
        "remedy_evaluation": {"orders": ["uniform"], "calibration": {"order": "uniform"}},
    },
}


@pytest.fixture(scope="module", params=KINDS)
def named(request, tmp_path_factory) -> SimpleNamespace:
    """A study of the kind, run to its report."""
    values = merge(merge({key: STUDY[key] for key in MINE if key in STUDY}, MINE), KINDS[request.param])
    study = small_study(tmp_path_factory.mktemp(request.param), **values)
    for run, seed in study.params.run_configs():
        study.train(run, seed)
        study.reconstruct(run, seed)
    home = study.home("w1")
    config = read_config(study.layout.remedy_json("w1", 0), RemedyFile)
    try_remedies(config, home / "train", study.data, home / "remedies", None, None, CPU)
    frames, figures = study.root / "frames", study.root / "reports" / "figures"
    evaluate(study.layout.study, study.root / "results", frames)
    if request.param == "draw":  # figures and pages are of frames, whatever the task
        drawn = [name for name in figures_of(study.params) if name in ACCURACY_IN]
        draw_some(drawn, study.layout.study, frames, figures)
        write_report(study.layout.study, frames, figures, figures.parent)
    return SimpleNamespace(kind=request.param, study=study, frames=frames, reports=figures.parent)


def frame(named, name: str) -> pl.DataFrame:
    return pl.read_parquet(named.frames / f"{name}.parquet")


def test_every_image_and_step_has_a_class_named_or_null(named):
    steps, task = named.study.frame("w1"), build_task(named.study.params.runs_by_name()["w1"], named.study.dataset)
    model, _ = load_model(named.study.home("w1") / "train/model.safetensors")
    rows, wanted = named.study.rows(), sorted(set(steps["step"]))
    order = named.study.params.evaluation.orders[0]
    _, scores = parted(run_sequence(model, task.held_out(rows, order, 0, wanted[-1]), wanted, "stream"), (1, 8, 8))
    labels = named.study.dataset.labels
    expected = (scores.argmax(-1) != labels[rows][:, None]).float()
    of = {method: steps.filter(method=method, mode="prefix").sort("image", "step") for method in set(steps["method"])}
    assert torch.equal(of["model"]["error_rate"].to_torch().reshape(expected.shape), expected)
    commonest = labels[named.study.dataset.split("train")].bincount().argmax()
    nothing = (labels[rows] != commonest).float()[:, None].expand_as(expected)
    assert torch.equal(of.pop("mean_image")["error_rate"].to_torch().reshape(expected.shape), nothing)
    assert of.pop("model")["mse"].is_finite().all()
    assert of and all(frame["error_rate"].is_null().all() for frame in of.values())


def test_a_level_of_accuracy_is_the_share_of_right_answers(named):
    curves = frame(named, "curves").filter(run="w1", method="model", mode="prefix").sort("step")
    steps = named.study.frame("w1").filter(method="model", mode="prefix")
    by_step = steps.group_by("step").agg(pl.col("error_rate").mean()).sort("step")
    assert curves["accuracy"].to_list() == pytest.approx([100 * (1 - wrong) for wrong in by_step["error_rate"]])
    tried = pl.read_parquet(named.study.home("w1") / "remedies/steps.parquet").filter(remedy="windows", step=12)
    levels = frame(named, "remedies").filter(remedy="windows", step=12)
    assert levels["accuracy"].item() == pytest.approx(100 * (1 - tried["error_rate"].mean()))
    assert {"accuracy_effect", "accuracy_effect_lo"} <= set(frame(named, "remedies_differences").columns)
    change = frame(named, "degradation").filter(run="w1", step=12)["accuracy_delta"].item()
    at = dict(curves.select("step", "accuracy").rows())
    assert change == pytest.approx(at[12] - at[6])


def test_every_frame_that_figures_draw_of_levels_has_both(named):
    accuracy = {
        (run, step): value
        for run, step, value in frame(named, "curves")
        .filter(method="model", mode="prefix")
        .select("run", "step", "accuracy")
        .rows()
    }
    envelope = frame(named, "envelope")
    assert envelope.filter(role="specialist")["run"].to_list() == ["fixed"]  # not that for the class alone
    for row in envelope.to_dicts():
        assert row["accuracy"] == pytest.approx(accuracy[row["run"], row["step"]])
    (told,) = envelope.filter(role="adaptive", step=6).to_dicts()
    assert told["accuracy_gain"] == pytest.approx(accuracy["told", 6] - accuracy["w0", 6])
    assert told["accuracy_beside"] == pytest.approx(accuracy["told", 6] - accuracy["fixed", 6])
    drawn = frame(named, "figure_remedies").filter(remedy="layers", factor=2.0)
    tried = frame(named, "remedies").filter(remedy="layers").select("factor", "accuracy").rows()
    assert drawn["accuracy_delta"].item() == pytest.approx(dict(tried)[2.0] - dict(tried)[1.0])
    assert frame(named, "figure_training").filter(run="w1")["accuracy"].is_between(0, 100).all()


def test_contrasts_and_frames_have_both(named):
    assert {p.name for p in named.frames.iterdir()} == {*frames_of(named.study.params), "record.json"}
    rows = {row["name"]: row for row in frame(named, "contrasts").to_dicts()}
    accuracy = dict(
        frame(named, "curves").filter(method="model", mode="prefix", step=12).select("run", "accuracy").rows()
    )
    assert rows["A"]["effect"] == pytest.approx(accuracy["w1"] - accuracy["w0"])
    assert rows["R"]["effect"] is not None
    exchange, _ = frame(named, "exchange").to_dicts()  # of generalists, and of specialists
    assert exchange["runs"] == ["w0", "w1"] and exchange["weights"] == [0.0, 1.0]


def test_the_pages_have_both(named):
    if named.kind == "queried":
        pytest.skip("its pages are not made")
    report = (named.reports / "report.md").read_text()
    assert "## The picture and the class" in report and " pp, 1 training" in report
    assert " / " in (named.reports / "details.md").read_text().split("| windows |")[1].splitlines()[0]


def test_a_run_without_a_head_beside_others_names_nothing(named):
    if named.kind == "queried":
        pytest.skip("all of its runs name classes")
    assert "error_rate" not in named.study.frame("plain").columns
    assert frame(named, "curves").filter(run="plain", method="model")["accuracy"].is_null().all()
    assert frame(named, "figure_curves").filter(run="w0")["accuracy"].is_not_null().all()

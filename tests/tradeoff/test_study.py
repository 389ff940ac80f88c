"""A tiny study from images to the report, by the functions that the commands call."""

import json

import polars as pl
import pytest
import torch

from lgmamba.analysis.kept import check_kept, keep
from lgmamba.config.base import ConfigError
from lgmamba.data.build import build_dataset
from lgmamba.records import find_record, reason_to_make
from lgmamba.tradeoff.figures import FIGURES, draw
from lgmamba.tradeoff.figures.controls import together
from lgmamba.tradeoff.frames import evaluate
from lgmamba.tradeoff.jobs import jobs_of, stack_dir, write_files
from lgmamba.tradeoff.keys import FRAME_FILES, figure_key
from lgmamba.tradeoff.report import write_report
from lgmamba.tradeoff.stage import stack_files, train_stack
from tests.figures.thumbnails import thumbnails
from tests.tradeoff.studies import study


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the finished study, left as the current one while the module's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("study")
        patch.chdir(path)
        params = study()
        write_files(params)
        build_dataset(params.data, params.patch_sizes, params.outputs.data, workers=1, progress=False)
        for stack in params.stacks().values():
            out = stack_dir(params.outputs.results, stack.name)
            train_stack(stack, params.outputs.data, out, torch.device("cpu"))
        evaluate(params, params.outputs.results, params.outputs.results / "frames")
        keep(
            params,
            FRAME_FILES,
            "tradeoff evaluate",
            params.outputs.results / "frames",
            params.outputs.reports / "frames",
        )
        with thumbnails():
            for name in FIGURES:
                draw(name, params, params.outputs.reports / "frames", params.outputs.reports / "figures")
        write_report(
            params, params.outputs.reports / "frames", params.outputs.reports / "figures", params.outputs.reports
        )
        yield path


def frame(home, name) -> pl.DataFrame:
    return pl.read_parquet(home / f"reports/small/frames/{name}.parquet")


def test_every_stack_has_its_files_and_rows(home):
    points = frame(home, "points")
    for name, stack in study().stacks().items():
        assert set(find_record(home / f"results/small/stacks/{name}").files) == set(stack_files(stack))
        rows = points.filter(stack=name)
        assert len(rows) == (4 if stack.variant == "linear" else len(stack.seeds) * len(stack.weights))
    networks = points.filter(what="network")
    assert networks["mse"].is_finite().all() and networks["accuracy"].is_between(0, 100).all()
    ends = networks.filter(variant="main")
    assert ends.filter(pl.col("probe_accuracy_linear").is_not_null())["weight"].unique().to_list() == [0.0]
    assert ends.filter(pl.col("probe_mse").is_not_null())["weight"].unique().to_list() == [1.0]


def test_every_head_trained_anew_says_how_long_and_whether_it_converged(home):
    points, text = frame(home, "points"), (home / "reports/small/report.md").read_text()
    trained = 0
    for name, reached in (("linear", "probe_accuracy_linear"), ("mlp", "probe_accuracy_mlp"), ("decoder", "probe_mse")):
        rows = points.filter((pl.col(reached).is_not_null()) | (pl.col("variant") == "linear") & (name == "linear"))
        assert rows[f"probe_steps_{name}"].is_in([2, 4]).all()  # one of the two looks
        assert (rows[f"probe_converged_{name}"] == (rows[f"probe_steps_{name}"] == 2)).all()  # patience: one look
        assert points[f"probe_steps_{name}"].count() == len(rows)
        trained += len(rows)
    converged = sum(int(points[f"probe_converged_{name}"].sum()) for name in ("linear", "mlp", "decoder"))
    assert f"{converged} of the {trained} heads did" in text


def test_contrasts_are_differences_of_the_points(home):
    """Recomputed from `points` with nothing of the study's own."""
    points, row = frame(home, "points"), frame(home, "contrasts").filter(name="E1").row(0, named=True)
    here = points.filter(stack="mlp_m4").sort("seed")
    level = {w: -10 * here.filter(weight=w)["mse"].log10() for w in (0.0, 0.5)}
    assert row["per_seed"] == pytest.approx((level[0.5] - level[0.0]).to_list(), abs=1e-9)
    assert (row["verdict"], row["n_seeds"]) == ("described", 2)


def test_the_same_images_are_drawn_at_every_weight(home):
    pictures = frame(home, "pictures")
    assert pictures.group_by("weight").len().sort("weight")["len"].to_list() == [2, 2, 2, 2]
    assert set(pictures["pixels"].list.len()) == {64}


def test_the_report_answers_first_and_has_every_figure(home):
    text = (home / "reports/small/report.md").read_text()
    assert text.index("**E1. costs**") < text.index("**E5. nowhere**") < text.index("![What is had of both along w]")
    assert all(f"figures/{name}.png" in text for name in FIGURES)
    assert len(json.loads((home / "reports/small/headline.json").read_text())["contrasts"]) == 2


def test_what_is_done_is_current_and_a_changed_value_is_not(home):
    assert [name for name in FRAME_FILES if not (home / "reports/small/frames" / name).is_file()] == []
    jobs = jobs_of(study())
    assert reason_to_make(jobs["evaluate",].key(), jobs["evaluate",].out) is None
    other = jobs_of(study(tradeoff={"train": {"lr": 0.02}}))["train", "mlp_m4"]
    same = jobs["train", "mlp_m4"]
    assert "other values" in reason_to_make(other.key(), other.out)
    assert "other values" not in reason_to_make(same.key(), same.out)  # images alone: none were recorded here


def test_a_damaged_configuration_beside_kept_frames_is_noticed(home):
    kept = home / "reports/small/frames"
    assert set(find_record(kept).files) == {*FRAME_FILES, "study.json"}
    assert figure_key(study(), find_record(kept)) == figure_key(study(), find_record(home / "results/small/frames"))


def test_kept_frames_of_another_configuration_are_named(home):
    with pytest.raises(ConfigError, match=r"tradeoff\.train\.lr: found 0\.01, expected 0\.02"):
        check_kept(study(tradeoff={"train": {"lr": 0.02}}), home / "reports/small/frames")


def test_a_latent_larger_than_images_of_unknown_size_is_named_before_training(home, tmp_path):
    stack = study().stacks()["mlp_m4"].model_copy(update={"latent": 65})
    with pytest.raises(ConfigError, match="latent: found 65, expected: at most the 64 numbers of an image"):
        train_stack(stack, study().outputs.data, tmp_path / "out", torch.device("cpu"))
    assert not (tmp_path / "out").exists()


def test_lines_that_lie_together_share_one_name_above_the_highest():
    assert together([(18.1, 0.0), (14.8, 0.9), (18.0, 0.1)], 0.2) == [(14.8, [0.9]), (18.1, [0.0, 0.1])]
    assert together([(18.1, 0.0), (18.0, 0.1)], 0.05) == [(18.0, [0.1]), (18.1, [0.0])]

"""What DVC records is what Snakemake does."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from lgmamba.config.study import load_params
from tests.config.studies import leaves
from tests.workflow import served
from tests.workflow.checkouts import Checkout, copy_repository, write_small_study

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory) -> Checkout:
    """A copy in which `dvc repro` has run the small study, on a clean checkout."""
    copy = copy_repository(tmp_path_factory.mktemp("dvc") / "repository")
    write_small_study(copy.path)
    values = yaml.safe_load((copy.path / "params.yaml").read_text())
    values["tracking"]["kind"] = "none"
    values["probes"] = None  # as in the default study, whose stages dvc.yaml has
    (copy.path / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    copy.commit("small study")
    copy.run("dvc", "repro", LGMAMBA_PRELOADED=served.folder("models"))  # which each stage would load for its one job
    copy.commit("results")
    return copy


def stages_run(text: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", text)


def test_stages_are_those_of_the_parameters(checkout):
    params = load_params(checkout.path / "params.yaml")
    pairs = [f"{run}-{seed}" for run, seed in params.run_configs()]
    expected = {"config", "data", "evaluate", "figures", "report"}
    expected |= {f"{stage}@{pair}" for stage in ("train", "reconstruct") for pair in pairs}
    expected |= {f"remedy@{run}-{seed}" for run in params.remedy_evaluation.runs for seed in params.seeds}
    assert params.probes is None  # or dvc.yaml needs the stage
    assert set(checkout.run("dvc", "stage", "list", "--name-only").split()) == expected


def test_parameters_hold_nothing_that_dvc_refuses():
    """It takes no dates, so a day is written as a text."""
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    assert {type(value) for _, value in leaves(values)} <= {str, int, float, bool, type(None)}


@pytest.mark.thorough
def test_repro_gives_what_snakemake_gives(reproduced, finished):
    params = load_params(reproduced.path / "params.yaml")
    for run, seed in params.run_configs():
        model = params.outputs.results / "runs" / run / f"seed{seed}" / "train" / "model.safetensors"
        assert (reproduced.path / model).read_bytes() == (finished.path / model).read_bytes()
    for name in ("curves.parquet", "contrasts.parquet"):
        frame = params.outputs.results / "frames" / name
        assert (reproduced.path / frame).read_bytes() == (finished.path / frame).read_bytes()


@pytest.mark.thorough
def test_second_repro_is_a_no_op_and_snakemake_agrees(reproduced):
    assert "up to date" in reproduced.run("dvc", "repro")
    assert "up to date" in reproduced.run("dvc", "status")
    assert reproduced.planned() == {}


@pytest.mark.thorough
def test_metrics_plots_and_parameters_are_shown(reproduced, edited):
    shown = json.loads(reproduced.run("dvc", "metrics", "show", "--json"))
    assert any(path.endswith("metrics.json") for path in shown[""]["data"])
    reproduced.run("dvc", "plots", "show", "--out", "dvc_plots")
    page = (reproduced.path / "dvc_plots" / "index.html").read_text()
    assert not re.search(r"<script[^>]+src=", page)  # works offline
    assert "psnr" in page
    text = (reproduced.path / "params.yaml").read_text()
    edited(reproduced.path / "params.yaml", re.sub(r"weight_decay: \S+", "weight_decay: 0.0123", text, count=1))
    assert "0.0123" in reproduced.run("dvc", "params", "diff")


@pytest.mark.thorough
def test_pushed_results_are_pulled_into_a_clone_and_are_current_there(reproduced, tmp_path):
    reproduced.run("dvc", "remote", "add", "--local", "--force", "--default", "store", str(tmp_path / "remote"))
    reproduced.run("dvc", "push")
    reproduced.git("clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    clone.run("dvc", "remote", "add", "--local", "--default", "store", str(tmp_path / "remote"))
    (clone.path / ".venv").mkdir()
    (clone.path / ".venv" / "installed").touch()
    os.utime(clone.path / ".venv" / "installed", (2**32, 2**32))  # `make` has nothing to install
    clone.run("make", "pull")
    assert clone.planned() == {}
    assert "up to date" in clone.run("dvc", "status")


@pytest.mark.thorough
def test_experiment_reruns_what_it_changes(reproduced):
    params = load_params(reproduced.path / "params.yaml")
    run = params.claims.comparisons[0].adaptive
    change = f"++runs.{run}.train.weight_decay=0.0123"
    text = reproduced.run("dvc", "exp", "run", "-S", change, LGMAMBA_PRELOADED=served.folder("models"))
    seed = params.seeds[0]
    assert stages_run(text) == [
        "config",
        f"train@{run}-{seed}",
        f"reconstruct@{run}-{seed}",
        "evaluate",
        "figures",
        "report",
    ]
    assert reproduced.planned() == {}


def test_configuration_calls_nobody():
    config = (Path(__file__).parents[2] / ".dvc" / "config").read_text()
    for setting in ("analytics = false", "check_update = false", "autostage = false"):
        assert setting in config

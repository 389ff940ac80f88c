"""The study on CIFAR-10, shrunk to a minute on one core: from JPEG files to the report, by the commands that a person types."""

import json
from pathlib import Path

import polars as pl
import pytest
import yaml

from lgmamba.analysis import figures_of
from lgmamba.config.study import load_params
from tests.cli.programs import Caller

ROOT = Path(__file__).parents[1]
IMAGES = ROOT.parent / "shared" / "data"
FILES = [IMAGES / f"cifar10-{part}.parquet" for part in ("train", "test")]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.skipif(
        not all(path.is_file() for path in FILES), reason=f"no cifar10-{{train,test}}.parquet in {IMAGES}"
    ),
]

LENGTHS = {"task": {"lengths": {"kind": "uniform", "low": 1, "high": 16}}}
SMALL = {
    "data": {"source": {"path": str(FILES[0]), "test_path": str(FILES[1])}, "max_images": 2000},
    "model": {"d_model": 32, "n_layer": 1, "mixer": {"d_state": 8}, "decoder": {"hidden": 128}},
    "train": {
        "steps": 250,
        "batch_size": 64,
        "lr": 0.005,
        "warmup_steps": 20,
        "log_every": 25,
        "validate_every": 125,
        "validate_images": 40,
        "cpu_threads": 1,
    },
    "runs": {
        "uniform_16": LENGTHS,
        "adaptive_16": LENGTHS
        | {"model": {"adaptive": {"kind": "film", "features": "T_and_t", "hidden": 16, "beyond": "extrapolate"}}},
    },
    "seeds": [0],
    "evaluation": {
        "images": 20,
        "repeats": 1,
        "orders": ["permutation"],
        "max_length_ratio": 4,
        "length_ratios": [2],
        "extra_steps": [],
        "batch_images": 20,
        "panel_images": 4,
    },
    "claims": {
        "comparisons": [{"generalist": "uniform_16", "adaptive": "adaptive_16"}],
        "far_length_ratios": [2, 4],
    },
    "remedies": [{"name": "dt_running", "kind": "step_size", "form": "power", "mode": "stream"}],
    "remedy_evaluation": {"runs": ["uniform_16"], "length_ratios": [1, 4], "orders": ["permutation"], "images": 8},
    "probes": {
        "runs": ["uniform_16"],
        "length_ratios": [2],
        "images": 8,
        "fit_images": 16,
        "attention_images": 2,
        "swaps": 1,
    },
    "outputs": {"data": "data", "results": "results", "reports": "reports"},
    "tracking": {"kind": "none"},
    "device": "cpu",
}


def test_from_images_to_report_the_model_learns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lgmamba = Caller(monkeypatch, capsys)

    def run(*words: object) -> str:
        ended = lgmamba(*words)
        assert ended.code == 0, ended.err
        return ended.out

    study = ("--preset", "cifar10_remedies", "--override", yaml.safe_dump(SMALL))
    for line in run("show", ROOT / "params.yaml", *study, "--write", "--commands").splitlines():
        run(*line.split()[3:])
    params = load_params(ROOT / "params.yaml", "cifar10_remedies", SMALL)
    config = ("--study", "results/config/study.json")
    run("evaluate", *config, "--results", "results", "--out", "frames")
    for name in figures_of(params):
        run("figure", name, *config, "--frames", "frames", "--out", "reports/figures")
    run("report", *config, "--frames", "frames", "--figures", "reports/figures", "--out", "reports")

    manifest = json.loads(Path("data/manifest.json").read_text())
    assert manifest["image_shape"] == [3, 32, 32]
    assert manifest["counts"]["test"] == 2000
    assert {p.name for p in Path("reports/figures").glob("*.png")} == {f"{name}.png" for name in figures_of(params)}
    assert Path("reports/report.html").stat().st_size > 10_000

    for name in params.runs:
        steps = pl.read_parquet(f"results/runs/{name}/seed0/evaluation/steps.parquet").filter(
            mode="prefix", step=params.L0
        )
        psnr = {
            method: steps.filter(method=method).select(-10 * pl.col("mse").mean().log10()).item()
            for method in ("model", "mean_image")
        }
        # dB; half a decibel is an error 11 % below the mean image's, far more than 20 images scatter between methods
        assert psnr["model"] > psnr["mean_image"] + 0.5

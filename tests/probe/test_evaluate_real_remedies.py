"""What the stage `remedy` writes is what the analysis reads, of plain and of length-adaptive runs."""

import shutil
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from lgmamba.analysis import figures_of, frames_of
from lgmamba.analysis.evaluate import evaluate
from lgmamba.config.files import RemedyFile, read_config, write_config_files
from lgmamba.config.study import Params, validate
from lgmamba.probe.remedy import try_remedies
from lgmamba.report import write_report
from tests.figures.thumbnails import draw_some
from tests.probe.study import Study
from tests.train.tiny import CPU

TRIED = {
    "remedies": [
        {"name": "running", "kind": "step_size", "form": "power", "mode": "stream"},
        {"name": "layers", "kind": "step_size", "form": "layer", "calibrate": "zeroth_order", "mode": "prefix"},
    ],
    "remedy_evaluation": {
        "runs": ["plain", "told"],
        "length_ratios": [1, 2, 4],
        "orders": ["permutation", "replacement"],
        "images": 2,
        "repeats": 1,
        "calibration": {"images": 4, "steps": 1, "lengths": [2, 4]},
    },
}


@pytest.fixture(scope="module")
def extended(study, tmp_path_factory) -> SimpleNamespace:
    """The small study with remedies tried on a plain and on a length-adaptive run, evaluated."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(study.root / "results", root / "results")
    here = Study(root, validate(Params, study.params.model_dump(mode="json") | TRIED, "study"))
    write_config_files(here.params, root)
    for run in TRIED["remedy_evaluation"]["runs"]:
        for seed in here.params.seeds:
            home = here.home(run, seed)
            config = read_config(here.layout.remedy_json(run, seed), RemedyFile)
            try_remedies(config, home / "train", study.data, home / "remedies", None, None, CPU)
    evaluate(here.layout.study, root / "results", root / "frames")
    return SimpleNamespace(study=here, frames=root / "frames", root=root)


def frame(extended, name: str) -> pl.DataFrame:
    return pl.read_parquet(extended.frames / f"{name}.parquet")


def test_every_frame_is_there(extended):
    assert {path.name for path in extended.frames.iterdir()} == {*frames_of(extended.study.params), "record.json"}
    levels = frame(extended, "remedies")
    # 6 = L0: 1 and 3 below it, 12 and 24 beyond; a told run is also read as told L0 all the way
    assert levels.group_by("run").len().sort("run").rows() == [("plain", 9 * 2 * 5), ("told", 10 * 2 * 5)]
    assert set(levels.filter(remedy="vanilla_stream")["run"]) == {"told"}


@pytest.mark.parametrize("seed", [0, 1])
def test_levels_are_those_of_the_files(extended, seed):
    steps = pl.read_parquet(extended.study.home("told", seed) / "remedies/steps.parquet")
    differences = frame(extended, "remedies_differences").filter(
        run="told", order="replacement", remedy="running", step=24
    )

    def psnr(remedy: str, step: int = 24) -> float:
        mine = steps.filter(remedy=remedy, order="replacement", step=step)["mse"].cast(pl.Float64)
        return -10 * np.log10(mine.mean())

    found = {row["against"]: row["per_seed"][seed] for row in differences.iter_rows(named=True)}
    assert found["freeze"] == pytest.approx(psnr("running") - psnr("freeze"), abs=1e-9)
    assert found["itself at L0"] == pytest.approx(psnr("running") - psnr("running", 6), abs=1e-9)
    # in its own mode: as told L0 all the way
    assert found["vanilla"] == pytest.approx(psnr("running") - psnr("vanilla_stream"), abs=1e-9)
    assert psnr("vanilla") != psnr("vanilla_stream")


def test_nothing_changes_up_to_L0_in_the_remedys_own_mode(extended):
    proper = frame(extended, "remedies_differences").filter(pl.col("remedy").is_in(["running", "layers"]))
    short = proper.filter(pl.col("factor") <= 1)
    assert len(short) == 2 * 2 * 2 * 3
    assert short["effect"].abs().max() < 0.001  # errors of images are kept to a thousandth of a decibel


def test_the_study_is_drawn_and_told(extended):
    figures = extended.root / "figures"
    drawn = [name for name in figures_of(extended.study.params) if name.startswith("remedies")]
    draw_some(drawn, extended.study.layout.study, extended.frames, figures)
    assert len(drawn) == 2
    write_report(extended.study.layout.study, extended.frames, figures, extended.root)
    text = (extended.root / "details.md").read_text()
    told = text.split("<summary>told (L0 = 6), order permutation</summary>")[1].split("</details>")[0]
    assert "| vanilla_stream | the model as it is, told L0 all the way |" in told
    plain = text.split("<summary>plain (L0 = 6), order permutation</summary>")[1].split("</details>")[0]
    assert "vanilla_stream" not in plain

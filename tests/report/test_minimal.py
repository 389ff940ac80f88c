"""A study of plain runs and nothing else has its frames, figures and report, also where every picture is a perfect copy."""

import numpy as np
import polars as pl
import pytest

from lgmamba.analysis import figures_of
from lgmamba.analysis.collect import load_study
from lgmamba.analysis.evaluate import evaluate
from lgmamba.figures import draw
from lgmamba.metrics import LIMIT
from lgmamba.report import write_report
from tests.analysis.synthetic_study import make_study, study_values
from tests.figures.thumbnails import thumbnails
from tests.records import record_again

PLAIN = {
    "one": {"task": {"lengths": {"kind": "fixed", "value": 4}}},
    "two": {"task": {"lengths": {"kind": "fixed", "value": 16}}},
    "three": {},
}


def finished(root, **changes):
    """Frames, figures and report of a study without comparisons."""
    study, results = make_study(root, study_values(PLAIN, **changes), np.zeros((3, 1, 8, 8), np.uint8))
    return study, results


def write_everything(study, results, root, laid_out=False):
    evaluate(study, results, root / "frames")
    with thumbnails(laid_out):
        for name in figures_of(load_study(study)):
            draw(name, study, root / "frames", root / "figures")
    write_report(study, root / "frames", root / "figures", root)
    return (root / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("seeds", [[0, 1], [5]], ids=["two seeds", "one seed"])
def test_a_study_without_comparisons_is_reported(tmp_path, seeds):
    study, results = finished(tmp_path, claims={"comparisons": []}, seeds=seeds)
    assert "envelope" not in figures_of(load_study(study))
    report = write_everything(study, results, tmp_path)
    for run in PLAIN:
        assert f"`{run}`: at t = " in report  # what it remembers is told of every run
    assert "This study fixes no contrast" in report
    assert len(pl.read_parquet(tmp_path / "frames" / "envelope.parquet")) == 0


def test_constant_images_that_every_run_copies_perfectly_are_reported(tmp_path):
    study, results = finished(tmp_path, claims={"comparisons": []})
    for path in results.glob("runs/*/seed*/evaluation/*.parquet"):
        frame = pl.read_parquet(path)
        frame.with_columns(pl.lit(0, frame["mse"].dtype).alias("mse")).write_parquet(path)
        record_again(path.parent)
    report = write_everything(study, results, tmp_path, laid_out=True)
    summary = pl.read_parquet(tmp_path / "frames" / "summary.parquet")
    assert summary["psnr"].unique().to_list() == pytest.approx([LIMIT] * summary["psnr"].n_unique())
    assert "inf" not in report.replace("information", "")

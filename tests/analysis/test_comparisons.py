"""The same family at several budgets, several forms with one generalist: frames and report."""

import polars as pl
import pytest

from lgmamba.analysis import figures_of
from lgmamba.analysis.collect import load_study
from lgmamba.analysis.comparisons import (
    ADAPTIVE_BEHIND,
    ADAPTIVE_LEAD,
    CHANGE,
    LEVEL,
    SPECIALIST_LEAD,
    TOTAL_BEHIND,
)
from lgmamba.analysis.families import families
from lgmamba.report import write_report
from tests.figures.thumbnails import draw_some


def frame(compared, name: str) -> pl.DataFrame:
    return pl.read_parquet(compared.frames / f"{name}.parquet")


def psnr(compared, run: str, step: int) -> float:
    summary = frame(compared, "summary")
    return summary.filter(run=run, step=step, mode="prefix", method="model")["psnr"].item()


def test_specialists_had_the_generalists_budget(compared):
    found = {f.generalist: f.specialists for f in families(load_study(compared.study))}
    assert found == {"uniform": {8: "fixed_8", 16: "fixed_16"}, "uniform_long": {16: "fixed_16_long"}}


def test_budgets_side_by_side(compared):
    found = frame(compared, "figure_budget")
    level = found.filter(measure=LEVEL, role="specialist", step=16).sort("budget")
    assert level["run"].unique().sort().to_list() == ["fixed_16", "fixed_16_long"]
    for measure, a, b in (
        (SPECIALIST_LEAD, "fixed_16_long", "uniform_long"),
        (ADAPTIVE_LEAD, "adaptive_long", "uniform_long"),
        (ADAPTIVE_BEHIND, "adaptive_long", "fixed_16_long"),
    ):
        row = found.filter(measure=measure, step=16, budget=800).row(0, named=True)
        assert row["value"] == pytest.approx(psnr(compared, a, 16) - psnr(compared, b, 16), abs=1e-6)
        assert row["lo"] < row["value"] < row["hi"]
    fall = found.filter(measure=CHANGE, role="generalist", budget=800, factor=2.0)["value"].item()
    assert fall == pytest.approx(psnr(compared, "uniform_long", 32) - psnr(compared, "uniform_long", 16), abs=1e-6)
    assert not len(found.filter(measure=CHANGE, role="specialist", run="fixed_8"))  # its L0 is not the family's


def test_an_adaptive_run_of_all_specialists_budget(compared):
    """fixed_8 and fixed_16 had 400 steps each, adaptive_long 800; one specialist of 800 steps is no total."""
    found = frame(compared, "figure_budget")
    behind = found.filter(measure=TOTAL_BEHIND).sort("step")
    assert behind.select("run", "budget", "step").rows() == [("adaptive_long", 400, 8), ("adaptive_long", 400, 16)]
    for row in behind.to_dicts():
        T, one = row["step"], f"fixed_{row['step']}"
        assert row["value"] == pytest.approx(psnr(compared, "adaptive_long", T) - psnr(compared, one, T), abs=1e-6)


def test_forms_against_the_generalist(compared):
    found = frame(compared, "figure_forms").filter(family="uniform")
    assert found["run"].unique(maintain_order=True).to_list() == ["uniform", "adaptive", "film", "rescaled"]
    row = found.filter(run="film", measure=ADAPTIVE_LEAD, step=8).row(0, named=True)
    assert row["value"] == pytest.approx(psnr(compared, "film", 8) - psnr(compared, "uniform", 8), abs=1e-6)
    assert row["lead"] == pytest.approx(psnr(compared, "fixed_8", 8) - psnr(compared, "uniform", 8), abs=1e-6)
    assert row["note"] == "told T alone"
    far = found.filter(run="film", measure=CHANGE, factor=25.0)["value"].item()
    assert far == pytest.approx(psnr(compared, "film", 400) - psnr(compared, "film", 16), abs=1e-6)


def test_what_several_forms_share_is_there_once(compared):
    envelope = frame(compared, "envelope")
    assert len(envelope.filter(role="generalist", run="uniform", step=8)) == 1
    assert set(envelope.filter(role="adaptive")["run"]) == {"adaptive", "film", "rescaled", "adaptive_long"}


def test_the_report_has_both_tables(compared, tmp_path):
    names = figures_of(load_study(compared.study))
    assert {"budget", "forms"} < set(names)
    assert "envelope" not in names
    draw_some(("budget", "forms"), compared.study, compared.frames, tmp_path / "figures")
    write_report(compared.study, compared.frames, tmp_path / "figures", tmp_path)
    report = (tmp_path / "details.md").read_text()
    assert "| film | told T alone |" in report
    assert "| difference (dB) | T | 400 steps | 800 steps |" in report
    assert "| 2, 400 steps each | adaptive_long | 800 | 16 |" in report
    row = frame(compared, "figure_budget").filter(measure=SPECIALIST_LEAD, step=16, budget=800).row(0, named=True)
    assert f"+{row['value']:.2f}" in report

"""Several sequence mixers in one study: the frame, the figure and the table of the report."""

import polars as pl
import pytest

from lgmamba.analysis import figures_of
from lgmamba.analysis.collect import load_study
from lgmamba.figures import FIGURES
from lgmamba.figures.style import Style
from lgmamba.report import write_report
from tests.figures.thumbnails import draw_some


def read(mixed, name: str) -> pl.DataFrame:
    return pl.read_parquet(mixed.frames / f"{name}.parquet")


def psnr(mixed, run: str, step: int) -> float:
    return read(mixed, "summary").filter(run=run, step=step, mode="prefix", method="model")["psnr"].item()


def test_a_row_has_the_change_from_L0_and_the_regret_against_the_same_mixers_specialist(mixed):
    frame = read(mixed, "figure_mixers")
    assert frame["run"].unique(maintain_order=True).to_list() == ["uniform", "gru", "gru_fixed", "attention", "gru_all"]
    row = frame.filter(run="gru", step=64).row(0, named=True)
    assert row["factor"] == 4
    assert row["change"] == pytest.approx(psnr(mixed, "gru", 64) - psnr(mixed, "gru", 16), abs=1e-6)
    known = frame.filter(pl.col("regret").is_not_null())
    assert known.select("run", "step").rows() == [("gru", 16), ("gru_all", 16)]  # others have no specialist
    assert known["regret"][0] == pytest.approx(psnr(mixed, "gru", 16) - psnr(mixed, "gru_fixed", 16), abs=1e-6)


def test_a_row_has_the_size_and_the_length_of_the_memory(mixed):
    about = read(mixed, "figure_mixers").unique("run", maintain_order=True)
    numbers = dict(about.select("run", "numbers").iter_rows())
    assert numbers == {"uniform": 64 * 4, "gru": 8, "gru_fixed": 8, "attention": 0, "gru_all": 8}
    taus = {run: list(taus) for run, *taus in about.select("run", "tau_low", "tau", "tau_high", "tau_end").iter_rows()}
    assert [taus.pop("attention")] == [[None] * 4]
    assert list(taus.values()) == [[1.0, 8.0, 32.0, 16.0]] * 4


def test_the_figure_has_a_row_for_each_run_and_a_column_for_each_length(mixed):
    frame = read(mixed, "figure_mixers")
    figure = FIGURES["mixers"](frame, Style(list(load_study(mixed.study).runs)))
    specialists, generalists, several, _ = figure.axes
    assert [label.get_text() for label in several.get_yticklabels()] == ["gru all"]
    assert [label.get_text() for label in generalists.get_yticklabels()] == ["uniform", "gru", "attention"]
    assert [label.get_text() for label in specialists.get_yticklabels()] == ["gru fixed"]
    columns = "1/16 1/4 1/2 1 1.5 2 4 8 16 25".split()  # those that were read: panels stand below one another
    assert [label.get_text() for label in generalists.get_xticklabels()] == columns
    change = frame.filter(run="gru", factor=25.0)["change"].item()
    assert generalists.images[0].get_array()[1, -1] == pytest.approx(change)
    numbers = [text.get_text() for text in generalists.texts]
    assert f"{change:+.1f}".replace("-", "\u2212") in numbers
    assert numbers[columns.index("1")] == "0.0"
    [alone, _] = FIGURES["mixers"](frame.filter(run="gru"), Style(list(load_study(mixed.study).runs))).axes
    assert [label.get_text() for label in alone.get_xticklabels()] == columns
    some = frame.filter(pl.col("factor").is_in([1.0, 4.0, 16.0, 25.0]))
    beside, *_ = FIGURES["mixers"](some, Style(list(load_study(mixed.study).runs))).axes
    assert [label.get_text() for label in beside.get_xticklabels()] == ["1", "4", "25"]  # but 16, side by side


def test_the_report_has_the_table(mixed, tmp_path):
    assert "mixers" in figures_of(load_study(mixed.study))
    draw_some(("mixers",), mixed.study, mixed.frames, tmp_path / "figures")
    write_report(mixed.study, mixed.frames, tmp_path / "figures", tmp_path)
    details = (tmp_path / "details.md").read_text()
    assert (
        "| run | mixer | numbers | bounded | tau at the start | by L0 | after training | 1 \u00d7 L0 | 2 \u00d7 L0 | 25 \u00d7 L0 |"
        in details
    )
    beginnings = ("| attention | attention, 2 heads", "| gru | GRU, state 8")
    attention, gru = (next(line for line in details.splitlines() if line.startswith(begin)) for begin in beginnings)
    assert "| grows |  | | | |" in attention and f"{psnr(mixed, 'attention', 400):.1f}" in attention
    assert "| 8 (1 to 32) | 0.5 | 16 |" in gru

"""What single queries find: a line where there are several values, a dot where there is one."""

from types import SimpleNamespace

import polars as pl
import pytest

from lgmamba.figures.asked import ASPECTS, PANELS, fig_asked

STYLE = {"run": SimpleNamespace(colour="black", marker="o", label="a run")}


@pytest.mark.parametrize("values", [[1, 2, 4], [1]], ids=["line", "dot"])
def test_several_values_are_a_line_and_one_is_a_dot(values):
    rows = [
        {"panel": panel, "aspect": aspect, "run": "run", "queries": "sequential", "value": value}
        for panel in PANELS
        for aspect in ASPECTS
        for value in values
    ]
    level = {name: pl.lit(12.0) for name in ("psnr", "psnr_lo", "psnr_hi")}
    figure = fig_asked(pl.DataFrame(rows).with_columns(**level), STYLE)
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(values)]
    assert [line.get_marker() for line in drawn] == ["" if len(values) > 1 else "o"]

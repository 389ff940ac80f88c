"""Every form of the length-adaptive run that was tried: what it gains on the generalist, and what becomes of it beyond L0."""

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmamba.analysis.comparisons import ADAPTIVE_LEAD, CHANGE
from lgmamba.figures.levels import by_level
from lgmamba.figures.style import BOUNDARY, FAR, WIDTH, Style


def fig_forms(frame: pl.DataFrame, style: Style) -> Figure:
    """One row for each run, one panel for each length with a specialist and for each multiple of L0. Where classes are named, a second
    row of panels has the same of accuracy.

    Args:
        frame: `analysis.comparisons.form_frame`.
    """
    runs = frame["run"].unique(maintain_order=True).to_list()
    lengths = sorted(frame.filter(pl.col("measure") == ADAPTIVE_LEAD)["step"].unique())
    factors = sorted(frame.filter(pl.col("measure") == CHANGE)["factor"].unique())
    shown = [(ADAPTIVE_LEAD, "step", T) for T in lengths] + [(CHANGE, "factor", f) for f in (factors[0], factors[-1])]
    levels = by_level(frame, style)
    figure = Figure(figsize=(WIDTH, (0.9 + 0.19 * len(runs)) * len(levels)), layout="constrained")
    rows_of_axes = figure.subplots(len(levels), len(shown), squeeze=False, sharey=True)
    for axes, (here, looks) in zip(rows_of_axes, levels, strict=True):
        _draw(axes, here, looks, runs, shown)
    rows_of_axes[0, 0].invert_yaxis()
    return figure


def _draw(axes: Sequence[Axes], frame: pl.DataFrame, style: Style, runs: list[str], shown: list[tuple]) -> None:
    unit, label = style.metric.difference_unit, style.metric.label
    lengths = [T for measure, _, T in shown if measure == ADAPTIVE_LEAD]
    for ax, (measure, key, value) in zip(axes, shown, strict=True):
        rows = frame.filter(pl.col("measure") == measure, pl.col(key) == value)
        for row in rows.iter_rows(named=True):
            y = runs.index(row["run"])
            if row["lo"] is not None:
                ax.plot([row["lo"], row["hi"]], [y, y], color=style[row["run"]].colour, linewidth=1.6)
            ax.plot([row["seeds_lo"], row["seeds_hi"]], [y, y], "|", color=style[row["run"]].colour, markersize=5)
            ax.plot(row["value"], y, "o", color=style[row["run"]].colour, markersize=4)
        ax.axvline(0, color=FAR, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
        if measure == ADAPTIVE_LEAD:
            if len(lead := rows["lead"].drop_nulls()):
                ax.axvline(lead[0], color=BOUNDARY, linewidth=1, zorder=0)
            ax.set_title(f"T = {value}", loc="left")
        else:
            ax.set_title(f"{value:g} \u00d7 L0", loc="left")
        ax.grid(axis="y", color="0.92", linewidth=0.6)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(runs)), [style[run].label for run in runs])
    middle = axes[(len(lengths) - 1) // 2]
    middle.set_xlabel(f"Minus the generalist ({unit}); red: the specialist", fontsize=7)
    axes[-1].set_xlabel(f"Minus its {label} at L0 ({unit})", fontsize=7)

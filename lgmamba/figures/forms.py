"""Every form of the length-adaptive run that was tried: what it gains on the generalist, and what becomes of it beyond L0."""

import polars as pl
from matplotlib.figure import Figure

from lgmamba.analysis.comparisons import ADAPTIVE_LEAD, CHANGE
from lgmamba.figures.style import BOUNDARY, FAR, WIDTH, Style


def fig_forms(frame: pl.DataFrame, style: Style) -> Figure:
    """One row for each run, one panel for each length with a specialist and for each multiple of L0.

    Args:
        frame: `analysis.comparisons.form_frame`.
    """
    runs = frame["run"].unique(maintain_order=True).to_list()
    lengths = sorted(frame.filter(pl.col("measure") == ADAPTIVE_LEAD)["step"].unique())
    factors = sorted(frame.filter(pl.col("measure") == CHANGE)["factor"].unique())
    shown = [(ADAPTIVE_LEAD, "step", T) for T in lengths] + [(CHANGE, "factor", f) for f in (factors[0], factors[-1])]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.19 * len(runs)), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True)
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
            ax.axvline(rows["lead"][0], color=BOUNDARY, linewidth=1, zorder=0)
            ax.set_title(f"T = {value}", loc="left")
        else:
            ax.set_title(f"{value:g} \u00d7 L0", loc="left")
        ax.grid(axis="y", color="0.92", linewidth=0.6)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(runs)), [style[run].label for run in runs])
    axes[0].invert_yaxis()
    middle = axes[(len(lengths) - 1) // 2]
    middle.set_xlabel(f"Minus the generalist ({style.metric.difference_unit}); red: the specialist", fontsize=7)
    axes[-1].set_xlabel(f"Minus its {style.metric.label} at L0 ({style.metric.difference_unit})", fontsize=7)
    return figure

"""Error of one bare S6 layer against the number of pairs read, and what the closed form says."""

from typing import Any

import polars as pl
from matplotlib.figure import Figure

from lgmamba.figures.style import FAR, Style, grid_of_axes, legend_below, log2_axis, mark_L0

LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "loss": ("Theory", {"color": "black", "linewidth": 0.9}),
    "slowed": ("Theory, slower steps beyond L0", {"color": "black", "linewidth": 0.9, "linestyle": (0, (4, 1.5))}),
    "windows": ("Theory, mean of windows of L0", {"color": FAR, "linewidth": 0.9, "linestyle": (0, (1, 1))}),
}


def fig_theory(frame: pl.DataFrame, style: Style) -> Figure:
    """One panel for each run; dots = mean over seeds, bars = lowest and highest.

    Args:
        frame: figure_theory of `analysis.theory.theory_frame`.
    """
    runs = frame["run"].unique(maintain_order=True).to_list()
    figure, axes = grid_of_axes(len(runs), min(3, len(runs)), 2.9, sharex=True, sharey=True)
    for ax, run in zip(axes, runs, strict=True):
        here, look = frame.filter(run=run), style[run]
        for line, (words, drawn) in LINES.items():
            rows = here.filter(line=line)
            ax.plot(rows["step"], rows["error"], label=words, zorder=1, **drawn)
        rows = here.filter(line="model")
        ax.vlines(rows["step"], rows["lo"], rows["hi"], color=look.colour, linewidth=1.0)
        ax.plot(rows["step"], rows["error"], look.marker, color=look.colour, markersize=4, label="Model")
        mark_L0(ax, here["L0"][0])
        ax.set_yscale("log")
        ax.set_title(look.label, loc="left")
        ax.set_xlabel(f"Step t ({style.steps})")
        ax.spines[["top", "right"]].set_visible(False)
        legend_below(ax, ncol=2)
    axes[0].set_ylabel("Half squared error")
    log2_axis(axes[0].xaxis, frame["step"].to_list())
    return figure

"""Content against read-out: what the trained decoder draws, and what a read-out fitted anew finds, at some lengths."""

import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmamba.figures.probes import length_ratio_axis
from lgmamba.figures.style import COLOURS, Style, grid_of_axes, panel_title

READ_OUTS = {
    "trained": ("the trained one", None, "-", "o"),
    "refitted": ("fitted at T", COLOURS[0], "-", "s"),
    "refitted_at_L0": ("fitted at L0", COLOURS[1], (0, (4, 2)), "^"),
}
"""Read-out -> its name, colour (a number of seaborn's "colorblind"; None: black), line and marker."""


def fig_read_outs(frame: pl.DataFrame, style: Style) -> Figure:
    """PSNR of read-outs against T / L0, one panel for each run; line = mean over seeds, bar = lowest to highest.

    Args:
        frame: figure_read_outs of `analysis.probes.figure_data.read_outs_rows`.
    """
    runs = frame["run"].unique(maintain_order=True).to_list()
    figure, axes = grid_of_axes(len(runs), 3, 2.4, sharex=True, sharey=True)
    for ax, run in zip(axes, runs, strict=True):
        rows = frame.filter(pl.col("run") == run)
        _draw(ax, rows)
        panel_title(ax, "", f"{style[run].label}, L0 = {rows['L0'][0]}")
        length_ratio_axis(ax, rows)
        ax.set_xlabel("T / L0 (training lengths)")
        ax.tick_params(labelbottom=True)
        ax.spines[["top", "right"]].set_visible(False)
        place = ax.get_subplotspec()
        if place is not None and place.is_first_col():  # rows are as even as can be: of four panels, two each
            ax.set_ylabel("PSNR (dB)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="Read-out", loc="outside lower center", ncols=len(labels), handlelength=2.4)
    return figure


def _draw(ax: Axes, rows: pl.DataFrame) -> None:
    safe = sns.color_palette("colorblind")
    for name, (label, number, line, marker) in READ_OUTS.items():
        here = rows.filter(pl.col("series") == name).sort("x")
        colour = "black" if number is None else safe[number]
        ax.vlines(here["x"], here["lo"], here["hi"], color=colour, linewidth=1.2)
        ax.plot(here["x"], here["y"], color=colour, linestyle=line, marker=marker, markersize=3.5, label=label)

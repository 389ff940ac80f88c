"""The distributions of training lengths."""

import textwrap

import polars as pl
from matplotlib.figure import Figure

from lgmamba.figures.style import Style, grid_of_axes, shared_labels

COLUMNS = 4


def fig_lengths(frame: pl.DataFrame, style: Style) -> Figure:
    """Probability of each length on a log axis, one panel for each distinct distribution, in the colour of the first run that uses it.

    Args:
        frame: figure_lengths of `analysis.drawn.length_rows`.
    """
    laws = frame["distribution"].unique(maintain_order=True).to_list()
    figure, axes = grid_of_axes(len(laws), COLUMNS, 1.75, sharex=True, sharey=True)
    floor = 10 ** (-0.4) * float(frame["probability"].min())
    for ax, law in zip(axes, laws, strict=True):
        rows = frame.filter(pl.col("distribution") == law)
        runs = rows["runs"][0].split(",")
        ax.bar(rows["length"], rows["probability"], width=0.8, color=style[runs[0]].colour, linewidth=0)
        ax.set_yscale("log")
        ax.set_ylim(floor, 2)
        words = ", ".join(style[run].label for run in runs[:3]) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")
        ax.set_title(law[0].upper() + law[1:], loc="left", pad=3)
        ax.text(0.97, 0.95, textwrap.fill(words, 24), transform=ax.transAxes, ha="right", va="top", fontsize=6.5)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_xlim(0, frame["length"].max() + 1)
    shared_labels(figure, "Training length (patches)", "Probability")
    return figure

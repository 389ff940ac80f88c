"""The distributions of training lengths."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lgmamba.analysis.numbers import greatest, least
from lgmamba.figures.style import Style, grid_of_axes, panel_title, shared_labels

COLUMNS = 4
NARROW = 128
"""Longest length up to which bars stand apart; in wider panels each has an edge, without which it would vanish."""


def fig_lengths(frame: pl.DataFrame, style: Style) -> Figure:
    """Probability of each length on a log axis, one panel for each distinct distribution, in the colour of the first run that uses it.

    Args:
        frame: figure_lengths of `analysis.figure_data.length_rows`.
    """
    laws = frame["distribution"].unique(maintain_order=True).to_list()
    titles = {law: (law[0].upper() + law[1:]).replace(", ", ",\n") for law in laws}  # mixtures: a line for each part
    height = 1.75 + 0.12 * max(title.count("\n") for title in titles.values())
    figure, axes = grid_of_axes(len(laws), COLUMNS, height, sharex=True, sharey=True)
    edge = 0.0 if greatest(frame["length"]) <= NARROW else 0.8  # points; a bar of less than a dot of ink is not seen
    floor = 10 ** (-0.4) * least(frame["probability"])
    for ax, law in zip(axes, laws, strict=True):
        rows = frame.filter(pl.col("distribution") == law)
        runs = rows["runs"][0].split(",")
        colour = style[runs[0]].colour
        ax.bar(rows["length"], rows["probability"], width=0.8, color=colour, edgecolor=colour, linewidth=edge)
        ax.set_yscale("log")
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_ylim(floor, 2)
        panel_title(ax, titles[law], _users([style[run].label for run in runs]))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_xlim(0, greatest(frame["length"]) + 1)
    shared_labels(figure, f"Training length ({style.steps})", "Probability")
    return figure


def _users(labels: list[str], room: int = 34) -> str:
    """As many names as fit, and how many more there are."""
    shown = labels[:1]
    while len(shown) < len(labels) and len(", ".join(labels[: len(shown) + 1])) < room - 6:
        shown = labels[: len(shown) + 1]
    rest = len(labels) - len(shown)
    return ", ".join(shown) + (f" + {rest} more" if rest else "")

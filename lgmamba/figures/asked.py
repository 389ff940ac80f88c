"""Errors of single queries: by their number, by the distance to what was read, and of what was read last."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lgmamba.figures.style import MARKERS, Style, grid_of_axes, log2_axis

ASPECTS = {
    "rank": "Number of the query",
    "distance": "Pixels to the nearest patch read",
    "recall": "Steps since the patch was read",
}
PANELS = {"L0": "at its L0", "longest": "after the longest sequence"}
DASHES = {"sequential": "-", "independent": (0, (1, 1.2))}


def fig_asked(frame: pl.DataFrame, style: Style) -> Figure:
    """Columns = aspects, rows = steps; a line for each run, dotted where each query is asked alone; band = lowest to highest seed.

    Args:
        frame: figure_asked of `analysis.asked.asked_rows`.
    """
    figure, axes = grid_of_axes(len(ASPECTS) * len(PANELS), len(ASPECTS), 2.2, sharey=True)
    cells = [(panel, aspect) for panel in PANELS for aspect in ASPECTS]
    for ax, (panel, aspect) in zip(axes, cells, strict=True):
        here = frame.filter(pl.col("panel") == panel, pl.col("aspect") == aspect)
        for (run, way), rows in here.group_by("run", "queries", maintain_order=True):
            look, rows = style[run], rows.sort("value")
            ax.fill_between(rows["value"], rows["psnr_lo"], rows["psnr_hi"], color=look.colour, alpha=0.2, linewidth=0)
            label = look.label if way == "sequential" and aspect == "rank" else None
            (line,) = ax.plot(rows["value"], rows["psnr"], color=look.colour, linestyle=DASHES[way], label=label)
            again = look.marker != MARKERS[0]  # its colour is another run's too, and the line says how it was asked
            line.set(linewidth=1.1, marker=look.marker if len(rows) == 1 or again else "", markersize=4)
        if aspect == "distance":
            ax.set_xlim(-0.5, max([1, *here["value"]]) + 0.5)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        elif len(here):
            log2_axis(ax.xaxis, here["value"].to_list())
        ax.set_title(PANELS[panel], loc="left")
        ax.set_xlabel(ASPECTS[aspect])
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[:: len(ASPECTS)]:
        ax.set_ylabel("PSNR of a patch (dB)")
    ways = [axes[0].plot([], [], color="black", linestyle=dashes, linewidth=1.1)[0] for dashes in DASHES.values()]
    lines, words = axes[0].get_legend_handles_labels()
    figure.legend([*lines, *ways], [*words, "one after the other", "each alone"], loc="outside upper center", ncol=3)
    return figure

"""How far back a model reads: its attention, its gradient, and swapped patches."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmamba.analysis.numbers import least
from lgmamba.figures.probes import Panel, draw_layers, length_ratio_axis, panel_figure, shades
from lgmamba.figures.style import FAR, Style, log2_axis

AGE = "Age + 1 (steps)"


def fig_receptive_field(frame: pl.DataFrame, style: Style) -> Figure:
    """Mean distance of attention over T; share of the gradient up to an age; share of a swapped patch that is drawn.

    Args:
        frame: figure_receptive_field of `analysis.probes.figure_data.receptive_field_rows`.
    """
    panels: list[Panel] = [
        ("Hidden attention", _draw_distance, "T / L0 (training lengths)", "Mean distance / T"),
        ("Gradient", _draw_gradient, AGE, "Share up to this age"),
        ("Swapped patch", _draw_swap, AGE, "Share drawn"),
    ]
    figure = panel_figure(frame, style, panels, 1.85)
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    figure.legend(
        handles, [f"T = {label} L0" for label in labels], loc="outside lower right", ncols=len(labels), handlelength=1.6
    )
    # Of the run with most layers: its legend has the lines of all.
    handles, labels = max(
        (ax.get_legend_handles_labels() for ax in figure.axes[:: len(panels)]), key=lambda it: len(it[1])
    )
    figure.legend(handles, labels, loc="outside lower left", ncols=3, handlelength=2.2, columnspacing=1.0)
    return figure


def _draw_distance(ax: Axes, rows: pl.DataFrame) -> None:
    distance = rows.filter(pl.col("panel") == "distance")
    even = distance.filter(pl.col("series") == "even").sort("x")
    ax.plot(even["x"], even["y"], color=FAR, linewidth=0.9, linestyle=(0, (1, 1.2)), label="all steps alike")
    draw_layers(ax, distance.filter(pl.col("series") == "layer"))
    length_ratio_axis(ax, distance)
    ax.set_ylim(0, 0.55)


def _draw_gradient(ax: Axes, rows: pl.DataFrame) -> None:
    _draw_lengths(ax, rows.filter(pl.col("panel") == "gradient"))
    ax.set_ylim(0, 1.03)


def _draw_swap(ax: Axes, rows: pl.DataFrame) -> None:
    swap = rows.filter(pl.col("panel") == "swap")
    _draw_lengths(ax, swap)
    ax.axhline(0, color=FAR, linewidth=0.7)
    ax.set_ylim(bottom=min(0.0, least(swap["lo"])))


def _draw_lengths(ax: Axes, rows: pl.DataFrame) -> None:
    factors = rows["factor"].unique().sort().to_list()
    for factor, colour in shades(factors).items():
        line = rows.filter(pl.col("factor") == factor).sort("x")
        ax.fill_between(line["x"], line["lo"], line["hi"], color=colour, alpha=0.2, linewidth=0)
        ax.plot(line["x"], line["y"], color=colour, marker="o", markersize=2.2, label=f"{factor:g}")
    log2_axis(ax.xaxis, rows["x"].to_list(), most=5)

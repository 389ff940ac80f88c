"""What the figures of the probes share: one row of panels for each run, lines for layers and lengths."""

from collections.abc import Callable, Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmamba.figures.style import FAR, LINES, SEQUENTIAL, WIDTH, Style, log2_axis, panel_title

Panel = tuple[str, Callable[[Axes, pl.DataFrame], None], str, str]
"""What is shown, how rows of a run are drawn, and the labels of both axes."""


def panel_figure(frame: pl.DataFrame, style: Style, panels: Sequence[Panel], height: float) -> Figure:
    """Rows: runs; columns: panels. Row height in inches."""
    runs = frame["run"].unique(maintain_order=True).to_list()
    figure = Figure(figsize=(WIDTH, height * len(runs) + 0.35), layout="constrained")
    axes = figure.subplots(len(runs), len(panels), squeeze=False, sharex="col")
    for row, run in enumerate(runs):
        rows = frame.filter(pl.col("run") == run)
        for column, (title, draw, x, y) in enumerate(panels):
            ax = axes[row, column]
            draw(ax, rows)
            panel_title(ax, title if row == 0 else "", f"{style[run].label}, L0 = {rows['L0'][0]}")
            ax.set_ylabel(y)
            ax.tick_params(labelbottom=True)
            if row == len(runs) - 1:
                ax.set_xlabel(x)
            ax.spines[["top", "right"]].set_visible(False)
    return figure


def shades(values: list) -> dict:
    """A colour for each of some ordered values, dark to light."""
    return {value: SEQUENTIAL(0.85 * k / max(1, len(values) - 1)) for k, value in enumerate(values)}


def line_of_layer(layer: int) -> object:
    """Line style of a layer, the same in every figure."""
    return LINES[layer % len(LINES)]


def draw_layers(ax: Axes, rows: pl.DataFrame) -> None:
    """One line for each layer, with the range of seeds."""
    layers = rows["layer"].unique().sort().to_list()
    colours = shades(layers)
    for layer in layers:
        line = rows.filter(pl.col("layer") == layer).sort("x")
        ax.fill_between(line["x"], line["lo"], line["hi"], color=colours[layer], alpha=0.2, linewidth=0)
        ax.plot(line["x"], line["y"], color=colours[layer], linestyle=line_of_layer(layer), label=f"layer {layer + 1}")


def length_ratio_axis(ax: Axes, rows: pl.DataFrame) -> None:
    """T / L0, with the training length marked."""
    log2_axis(ax.xaxis, rows["x"].to_list(), most=5)
    ax.axvline(1, color=FAR, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)

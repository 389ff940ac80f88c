"""What becomes of the states beyond the training length, and whether the image is still in them."""

import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmamba.analysis.numbers import greatest, least
from lgmamba.figures.probes import Panel, draw_layers, length_ratio_axis, panel_figure
from lgmamba.figures.style import COLOURS, FAR, Style, log2_axis

READ_OUTS = {
    "model": ("the model", "black", "-"),
    "model_restored": ("read at the norm of L0", "black", (0, (1, 1.2))),
    "refit": ("linear, fitted at T", COLOURS[0], "-"),
    "fixed": ("linear, fitted at L0", COLOURS[1], "-"),
    "restored": ("the same, at the norm of L0", COLOURS[1], (0, (1, 1.2))),
}
"""Read-out -> its name, colour (a number: of seaborn's "colorblind") and line."""
ROOM = 6.0
"""dB below the model's lowest value that the axis shows; what lies below has left the plot."""


def fig_states(frame: pl.DataFrame, style: Style) -> Figure:
    """Norm over that at L0; share of entries outside the range of training; PSNR of read-outs of the last layer's state.

    Args:
        frame: figure_states of `analysis.probes.figure_data.states_rows`.
    """
    x = "T / L0 (training lengths)"
    panels: list[Panel] = [
        ("Size of the state", _draw_norm, x, "||h|| / ||h|| at L0"),
        ("Beyond the range of training", _draw_beyond, x, "Entries (%)"),
        ("Content of the last layer", _draw_content, x, "PSNR (dB)"),
    ]
    figure = panel_figure(frame, style, panels, 1.9)
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=len(labels), handlelength=1.8, columnspacing=1.2)
    return figure


def _draw_norm(ax: Axes, rows: pl.DataFrame) -> None:
    norm = rows.filter(pl.col("panel") == "norm")
    ax.axhline(1, color=FAR, linewidth=0.7)
    draw_layers(ax, norm)
    length_ratio_axis(ax, norm)
    log2_axis(ax.yaxis, norm["y"].to_list(), most=6)
    ax.legend(handlelength=2.2)


def _draw_beyond(ax: Axes, rows: pl.DataFrame) -> None:
    beyond = rows.filter(pl.col("panel") == "beyond")
    draw_layers(ax, beyond)
    length_ratio_axis(ax, beyond)
    ax.set_ylim(bottom=0)


def _draw_content(ax: Axes, rows: pl.DataFrame) -> None:
    content = rows.filter(pl.col("panel") == "content")
    safe = sns.color_palette("colorblind")
    for name, (label, colour, line) in READ_OUTS.items():
        values = content.filter(pl.col("series") == name).sort("x")
        colour = safe[colour] if isinstance(colour, int) else colour
        ax.fill_between(values["x"], values["lo"], values["hi"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(values["x"], values["y"], color=colour, linestyle=line, label=label)
    length_ratio_axis(ax, content)
    ax.set_ylim(
        bottom=least(content.filter(pl.col("series") == "model")["y"]) - ROOM, top=greatest(content["hi"]) + 0.5
    )

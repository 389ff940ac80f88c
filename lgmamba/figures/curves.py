"""PSNR against the number of patches read, one line for each run; and accuracy below it, where classes are named."""

import math
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmamba.analysis.numbers import greatest, least, mean
from lgmamba.figures.levels import by_level
from lgmamba.figures.style import (
    BASELINES,
    FAR,
    PANEL_TITLES,
    WIDTH,
    Style,
    grid_of_axes,
    legend_below,
    legend_columns,
    log2_axis,
    mark_L0,
    rows_of_axes,
)

TRAINED_TO: dict[str, Any] = {"marker": "*", "linestyle": "none", "color": "black", "markersize": 7, "zorder": 6}
"""How the level of a run trained at one length alone is drawn, at that length."""
EDGE: dict[str, Any] = {"markeredgecolor": "black", "markeredgewidth": 0.4}
OUT_OF_VIEW = ("paste", "oracle_memory", "nearest", "least_squares")
"""Baselines that copy what was read: they leave the plot where all was."""


def fig_curves(frame: pl.DataFrame, style: Style) -> Figure:
    """One panel for each kind of run; line = mean over seeds, band = lowest to highest seed, dot and dashed line = L0.

    Where classes are named, accuracy has a second row of panels below, on the same steps.

    Args:
        frame: figure_curves of `analysis.figure_data.curve_rows`.
    """
    models = frame.filter(pl.col("method") == "model")
    panels = models["panel"].unique(maintain_order=True).to_list()
    levels = by_level(frame, style)
    columns = len(panels) if len(levels) > 1 else 2 if len(panels) in (2, 4) else 3
    labels = {panel: [style[run].label for run in _runs(models, panel)] for panel in panels}
    legends = {panel: legend_columns(words, WIDTH / min(columns, len(panels))) for panel, words in labels.items()}
    lines = max(math.ceil(len(labels[panel]) / legends[panel]) for panel in panels)
    more = 0.15 * (lines - 1) if lines > 3 else 0.0
    if len(levels) == 1:
        figure, axes = grid_of_axes(len(panels), columns, 2.9 + more, sharex=True, sharey=True)
        rows = [axes]
    else:
        figure, rows = rows_of_axes(len(levels), columns, 2.4 * len(levels) + 0.5 + more)
    for row, (here, looks) in zip(rows, levels, strict=True):
        for ax, panel in zip(row, panels, strict=True):
            _draw_baselines(ax, here)
            _draw_runs(ax, here.filter(pl.col("method") == "model", pl.col("panel") == panel), looks)
            if row is rows[0]:
                ax.set_title(PANEL_TITLES.get(panel, panel), loc="left")
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelbottom=True)
            if row is rows[-1]:
                ax.set_xlabel(f"Step t ({style.steps})")
                legend_below(
                    ax,
                    *rows[0][panels.index(panel)].get_legend_handles_labels(),  # all runs, those that name no class too
                    ncol=legends[panel],
                )
        _limits(row[0], here)
        for ax in row[::columns]:
            ax.set_ylabel(looks.metric.title)
    log2_axis(rows[0][0].xaxis, models["step"].to_list())
    if "regret" in frame.columns:
        stars = [
            level
            for ax, panel in zip(rows[0], panels, strict=True)
            for level in _draw_trained_to(ax, models.filter(pl.col("panel") == panel), models, style)
        ]
        low, high = rows[0][0].get_ylim()
        room = 0.05 * (high - low)  # for the upper half of a star
        rows[0][0].set_ylim(min([low, *(y - room for y in stars)]), max([high, *(y + room for y in stars)]))
    _baseline_legend(figure, frame, set(levels[1][0]["method"]) if len(levels) > 1 else set())
    return figure


def _draw_trained_to(ax: Axes, here: pl.DataFrame, models: pl.DataFrame, style: Style) -> list[float]:
    """A star for each run trained at one length alone that lines of this panel are measured by: how far one is below it is its regret.

    Black where several lines are measured by it, else in the colour of the one that is. It stands where its own line is; where that
    is not drawn, where the regrets say.

    Returns:
        the levels of the stars.
    """
    drawn = []
    levels = {(run, step): psnr for run, step, psnr in models.select("run", "step", "psnr").rows()}
    known = here.drop_nulls("regret").with_columns(there=pl.col("psnr") + pl.col("regret"))
    for (against, step), rows in known.group_by("against", "step", maintain_order=True):
        runs = rows["run"].to_list()
        look = TRAINED_TO if len(runs) > 1 else TRAINED_TO | {"color": style[runs[0]].colour} | EDGE
        drawn.append(levels.get((against, step), mean(rows["there"])))
        ax.plot(step, drawn[-1], **look)
    return drawn


def _runs(models: pl.DataFrame, panel: str) -> list[str]:
    return models.filter(pl.col("panel") == panel)["run"].unique(maintain_order=True).to_list()


def _draw_runs(ax: Axes, here: pl.DataFrame, style: Style) -> None:
    for run, rows in here.group_by("run", maintain_order=True):
        look = style[run[0]]
        ax.fill_between(rows["step"], rows["psnr_lo"], rows["psnr_hi"], color=look.colour, alpha=0.25, linewidth=0)
        ax.plot(rows["step"], rows["psnr"], **look.stroke, label=look.label)
        at_L0 = rows.filter(pl.col("at_L0"))
        ax.plot(
            at_L0["step"],
            at_L0["psnr"],
            look.marker,
            color=look.colour,
            markersize=4.5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            zorder=5,
        )
    for L0 in here["L0"].unique():
        mark_L0(ax, L0)


def _limits(ax: Axes, frame: pl.DataFrame) -> None:
    in_view = frame.filter(pl.col("method").is_in(OUT_OF_VIEW).not_())
    low, high = least(in_view["psnr_lo"]), greatest(in_view["psnr_hi"])
    span = max(high - low, 1.0)  # dB; constant images leave no span
    ax.set_ylim(low - 0.05 * span, high + 0.07 * span)


def _draw_baselines(ax: Axes, frame: pl.DataFrame) -> None:
    for method, (_, dashes) in BASELINES.items():
        rows = frame.filter(pl.col("method") == method)
        ax.plot(rows["step"], rows["psnr"], color="black", linewidth=0.9, linestyle=dashes, zorder=1)


def _baseline_legend(figure: Figure, frame: pl.DataFrame, named: set[str]) -> None:
    """named: methods that have accuracies: of the baselines the one that knows nothing, which names the commonest class."""
    present = set(frame["method"])
    lines = [
        figure.axes[0].plot([], [], color="black", linewidth=0.9, linestyle=dashes)[0]
        for m, (_, dashes) in BASELINES.items()
        if m in present
    ]
    lines.append(figure.axes[0].plot([], [], "o", color=FAR, markersize=4.5)[0])
    below = {method: "; below, commonest class" for method in named}
    words = [words + below.get(m, "") for m, (words, _) in BASELINES.items() if m in present] + ["Training length L0"]
    if "regret" in frame.columns:
        lines += figure.axes[0].plot([], [], **TRAINED_TO)
        words.append("Trained at this length alone")
    figure.legend(lines, words, loc="outside upper center", ncol=3)

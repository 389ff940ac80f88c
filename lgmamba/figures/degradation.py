"""What is lost beyond the training length."""

import math

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmamba.analysis.statistics import FEWEST
from lgmamba.figures.levels import by_level
from lgmamba.figures.style import (
    FAR,
    PANEL_TITLES,
    RC,
    WIDTH,
    Look,
    Style,
    grid_of_axes,
    in_two_lines,
    inches,
    legend_below,
    legend_columns,
    log2_axis,
    rows_of_axes,
)

TALL = 2.0
"""Inches: the longest label beside a panel that is written in one line."""


def fig_degradation(frame: pl.DataFrame, style: Style) -> Figure:
    """PSNR(T) - PSNR(L0) against T / L0, one panel for each kind of run; band = interval over trainings, where there are enough
    of them. Where classes are named, the change of accuracy has a second row of panels.

    Where some run was trained at T alone a star shows where it is; the line down to the run is its regret.

    Args:
        frame: degradation of `analysis.frames.degradation_frame`.
    """
    panels, levels = [kind for kind in PANEL_TITLES if kind in set(frame["kind"])], by_level(frame, style)
    columns = len(panels) if len(levels) > 1 else 2 if len(panels) in (2, 4) else 3
    labels: dict[str, list[str]] = {}
    for kind, run, L0 in frame.select("kind", "run", "L0").unique(maintain_order=True).rows():
        labels.setdefault(kind, []).append(f"{style[run].label} (L0 = {L0})")
    room = WIDTH / min(columns, len(panels))
    legends = {kind: legend_columns(words, room) for kind, words in labels.items()}
    lines = max(math.ceil(len(words) / legends[kind]) for kind, words in labels.items())
    if len(levels) == 1:
        figure, axes = grid_of_axes(len(panels), columns, 2.2 + 0.15 * max(lines, 3), sharex=True, sharey=True)
        rows = [axes]
    else:
        figure, rows = rows_of_axes(len(levels), columns, 2.2 * len(levels) + 0.15 * max(lines, 3))
    for row, (here, looks) in zip(rows, levels, strict=True):
        for ax, panel in zip(row, panels, strict=True):
            _draw(ax, here.filter(pl.col("kind") == panel), looks, regret=row is rows[0] and "regret" in frame.columns)
            if row is rows[0]:
                ax.set_title(PANEL_TITLES[panel], loc="left")
        for ax in row[::columns]:
            words = looks.metric.change()
            ax.set_ylabel(words if inches(words, RC["axes.labelsize"]) <= TALL else in_two_lines(words))
    log2_axis(rows[0][0].xaxis, frame["factor"].to_list())
    for ax, panel in zip(rows[-1], panels, strict=True):
        ax.set_xlabel("T / L0 (training lengths)")
        legend_below(
            ax,
            *rows[0][panels.index(panel)].get_legend_handles_labels(),  # all runs, those that name no class too
            ncol=legends[panel],
        )
    return figure


def _draw(ax: Axes, frame: pl.DataFrame, style: Style, regret: bool) -> None:
    ax.axhline(0, color=FAR, linewidth=0.7)
    for run, rows in frame.group_by("run", maintain_order=True):
        look = style[run[0]]
        known = rows.drop_nulls("delta_lo").filter(pl.col("n_seeds") >= FEWEST)
        ax.fill_between(
            known["factor"], known["delta_lo"], known["delta_hi"], color=look.colour, alpha=0.25, linewidth=0
        )
        label = f"{look.label} (L0 = {rows['L0'][0]})"
        ax.plot(rows["factor"], rows["delta"], **look.stroke, marker=look.marker, markersize=2.5, label=label)
        if regret:
            _draw_regret(ax, rows, look)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelbottom=True)


def _draw_regret(ax: Axes, rows: pl.DataFrame, look: Look) -> None:
    known = rows.drop_nulls("regret")
    there = known["delta"] + known["regret"]
    ax.vlines(known["factor"], known["delta"], there, color=look.colour, linewidth=0.8, linestyle=(0, (1, 1)))
    ax.plot(known["factor"], there, "*", color=look.colour, markersize=7, markeredgecolor="black", markeredgewidth=0.4)

"""What is lost beyond the training length."""

import math

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmamba.figures.style import FAR, PANEL_TITLES, WIDTH, Look, Style, grid_of_axes, legend_columns, log2_axis


def fig_degradation(frame: pl.DataFrame, style: Style) -> Figure:
    """PSNR(T) - PSNR(L0) against T / L0, one panel for each kind of run; band = interval over trainings.

    Where some run was trained at T alone a star shows where it is; the line down to the run is its regret.

    Args:
        frame: degradation of `analysis.frames.degradation_frame`.
    """
    panels = [kind for kind in PANEL_TITLES if kind in set(frame["kind"])]
    columns = 2 if len(panels) in (2, 4) else 3
    labels: dict[str, list[str]] = {}
    for kind, run, L0 in frame.select("kind", "run", "L0").unique(maintain_order=True).rows():
        labels.setdefault(kind, []).append(f"{style[run].label} (L0 = {L0})")
    room = WIDTH / min(columns, len(panels))
    legends = {kind: legend_columns(words, room) if columns == 2 else 1 for kind, words in labels.items()}
    lines = max(math.ceil(len(words) / legends[kind]) for kind, words in labels.items())
    figure, axes = grid_of_axes(len(panels), columns, 2.2 + 0.15 * max(lines, 3), sharex=True, sharey=True)
    for ax, panel in zip(axes, panels, strict=True):
        ax.axhline(0, color=FAR, linewidth=0.7)
        for run, rows in frame.filter(pl.col("kind") == panel).group_by("run", maintain_order=True):
            look = style[run[0]]
            known = rows.drop_nulls("delta_lo")
            ax.fill_between(
                known["factor"], known["delta_lo"], known["delta_hi"], color=look.colour, alpha=0.25, linewidth=0
            )
            ax.plot(
                rows["factor"],
                rows["delta"],
                **look.stroke,
                marker=look.marker,
                markersize=2.5,
                label=f"{look.label} (L0 = {rows['L0'][0]})",
            )
            _draw_regret(ax, rows, look)
        ax.set_title(PANEL_TITLES[panel], loc="left")
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelbottom=True)
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.21),
            ncol=legends[panel],
            columnspacing=1,
            handlelength=1.6,
        )
    log2_axis(axes[0].xaxis, frame["factor"].to_list())
    for ax in axes:
        ax.set_xlabel("T / L0 (training lengths)")
    for ax in axes[::columns]:
        ax.set_ylabel(style.metric.change())
    return figure


def _draw_regret(ax: Axes, rows: pl.DataFrame, look: Look) -> None:
    if "regret" not in rows.columns:
        return
    known = rows.drop_nulls("regret")
    there = known["delta"] + known["regret"]
    ax.vlines(known["factor"], known["delta"], there, color=look.colour, linewidth=0.8, linestyle=(0, (1, 1)))
    ax.plot(known["factor"], there, "*", color=look.colour, markersize=7, markeredgecolor="black", markeredgewidth=0.4)

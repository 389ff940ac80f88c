"""What remedies do beyond the training length."""

from typing import Any

import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmamba.analysis.numbers import greatest
from lgmamba.figures.levels import by_level
from lgmamba.figures.retention import draw_maps
from lgmamba.figures.style import COLOURS, FAR, WIDTH, Style, log2_axis, panel_title

COLOURED = 4  # remedies with a colour of their own
ROWS = 9  # remedies in the lower panels
FAINT = "0.84"
REFERENCES = {
    "vanilla": ("as it is", "-"),
    "truncate": ("truncate", (0, (1, 1.2))),
    "reset": ("reset", (0, (4, 1.2, 1, 1.2))),
    "freeze": ("freeze", (0, (5, 1.5))),
    "subset_cover": ("subset cover", (0, (1, 3))),
}
ROW = 0.2  # inches for each row below


def fig_remedies(frame: pl.DataFrame, style: Style) -> Figure:
    """Above: PSNR against T / L0 of the best remedies, the model as it is and controls; all other remedies faint; where classes are
    named the same of accuracy. Below: change from L0 at the longest T, of the best remedies and of the controls, of one and of the other.

    One column for each run and order. Below, a bar is Student's interval over trainings, small dots are single trainings' ends.

    Args:
        frame: figure_remedies of `analysis.remedies.figure_data.remedy_rows`.
    """
    panels = frame.select("run", "order").unique(maintain_order=True).rows()
    best = frame.filter("best_of_kind")["remedy"].unique(maintain_order=True).to_list()[:COLOURED]
    safe = sns.color_palette("colorblind")
    colours = {name: safe[COLOURS[k]] for k, name in enumerate(best)}
    names = _rows_below(frame, best)
    levels = by_level(frame, style)
    heights = [*[2.2] * len(levels), *[ROW * len(names)] * len(levels)]
    figure = Figure(figsize=(WIDTH, 0.8 + sum(heights)), layout="constrained")
    axes = figure.subplots(2 * len(levels), len(panels), squeeze=False, height_ratios=heights, sharey="row")
    curves, changes = axes[: len(levels)], axes[len(levels) :]
    apart = ", " if len(panels) <= 4 else "\n"  # narrow columns
    for column, (run, order) in enumerate(panels):
        for above, below, (here, _) in zip(curves[:, column], changes[:, column], levels, strict=True):
            rows = here.filter(pl.col("run") == run, pl.col("order") == order)
            if rows.is_empty():  # the run names no class
                above.axis("off")
                below.axis("off")
                continue
            _draw_curves(above, rows, colours)
            _draw_changes(below, rows.filter(pl.col("factor") == pl.col("factor").max()), names, colours)
        L0 = frame.filter(pl.col("run") == run)["L0"][0]
        panel_title(axes[0, column], style[run].label, f"L0 = {L0}{apart}{order}")
    middle = len(panels) // 2
    place = 0.5 if len(panels) % 2 else 0.0
    curves[-1, middle].set_xlabel("T / L0 (training lengths)", x=place)
    for above, below, (_, looks) in zip(curves, changes, levels, strict=True):
        metric, far = looks.metric, f"{greatest(frame['factor']):g} L0"
        above[0].set_ylabel(metric.title)
        below[0].set_yticks(range(len(names)), [_label(name) for name in names])
        below[0].set_ylim(len(names) - 0.5, -0.5)
        words = f"{metric.label} at {far} minus {metric.in_words} at L0 ({metric.difference_unit})"
        below[middle].set_xlabel(words, x=place)
    figure.legend(*_legend(axes[0]), loc="outside upper center", ncol=5, columnspacing=1.2, handlelength=2)
    return figure


def _rows_below(frame: pl.DataFrame, best: list[str]) -> list[str]:
    """The best remedy of each of the best kinds, the next best of any kind, then what they are compared with."""
    ranked = frame.filter(pl.col("rank").is_not_null()).sort("rank")["remedy"].unique(maintain_order=True).to_list()
    tried = [*best, *(name for name in ranked if name not in best)][: max(1, ROWS - len(REFERENCES))]
    return [*tried, *(name for name in REFERENCES if name in set(frame["remedy"]))]


def _label(name: str) -> str:
    """What a remedy or control is called, in the legend and beside its row alike."""
    return REFERENCES[name][0] if name in REFERENCES else name.replace("_", " ")


def _draw_curves(ax: Axes, rows: pl.DataFrame, colours: dict) -> None:
    for (name,), line in rows.group_by("remedy", maintain_order=True):
        line = line.sort("factor")
        if name in colours:
            ax.plot(line["factor"], line["psnr"], color=colours[name], zorder=4, label=_label(name))
            ax.fill_between(
                line["factor"], line["seeds_lo"], line["seeds_hi"], color=colours[name], alpha=0.2, linewidth=0
            )
        elif name in REFERENCES:
            looks: dict[str, Any] = {"color": "black", "linewidth": 1.1, "linestyle": REFERENCES[name][1]}
            ax.plot(line["factor"], line["psnr"], **looks, zorder=3, label=_label(name))
        elif line["rank"][0] is not None:
            ax.plot(line["factor"], line["psnr"], color=FAINT, linewidth=0.8, zorder=1)
    log2_axis(ax.xaxis, rows["factor"].to_list(), most=5)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_changes(ax: Axes, rows: pl.DataFrame, names: list[str], colours: dict) -> None:
    ax.axvline(0, color=FAR, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
    for row in rows.filter(pl.col("remedy").is_in(names)).iter_rows(named=True):
        y, colour = names.index(row["remedy"]), colours.get(row["remedy"], "0.3")
        if row["delta_lo"] is not None:
            ax.plot([row["delta_lo"], row["delta_hi"]], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
        ax.plot(row["delta"], y, "o" if row["rank"] is not None else "s", color=colour, markersize=4)
    ax.grid(axis="y", color="0.93", linewidth=0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _legend(axes: list[Axes]) -> tuple[list, list[str]]:
    """Handles and labels of all panels, each once."""
    found = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    return list(found.values()), list(found)


def fig_remedies_retention(frame: pl.DataFrame, style: Style) -> Figure:
    """Retention maps of vanilla and of the best remedies, one row of panels for each run, on one colour scale; mean over seeds.

    Args:
        frame: figure_remedies_retention of `analysis.remedies.figure_data.retention_rows`.
    """
    panels = frame.select("run", "remedy").unique(maintain_order=True).rows()
    maps = [frame.filter(pl.col("run") == run, pl.col("remedy") == remedy) for run, remedy in panels]
    titles = [
        (_label(remedy), f"{style[run].label}, L0 = {rows['L0'][0]}")
        for (run, remedy), rows in zip(panels, maps, strict=True)
    ]
    return draw_maps(maps, titles, len({remedy for _, remedy in panels}))

"""What each remedy does beyond the training length."""

from collections.abc import Iterator

import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lgmamba.figures.retention import draw_maps
from lgmamba.figures.style import COLOURS, FAR, SEQUENTIAL, WIDTH, Style, log2_axis, panel_title

COLOURED = 4  # remedies with a colour of their own
FAINT = "0.84"
REFERENCES = {
    "vanilla": "-",
    "freeze": (0, (5, 1.5)),
    "subset_random": (0, (1, 1.2)),
    "subset_cover": (0, (4, 1.2, 1, 1.2)),
}
LONGER = (0, (8, 3))  # the level of the generalist of the next longer L0
MARKERS = {"prefix": "o", "stream": "D"}
NO_REMEDY = "|"
ROW = 0.168  # inches for each remedy


def fig_remedies(frame: pl.DataFrame, style: Style) -> Figure:
    """Above: PSNR against T / L0 of the best remedy of each of the best kinds and of references, all others faint. Below: every
    remedy, best first.

    One column for each run and order. Below, a dot is PSNR(T) - PSNR(L0) at one T, its line the interval over images and seeds;
    filled: shown to be above `freeze` and both subsets. What lies outside the axes is drawn as an arrow at their edge.

    Args:
        frame: figure_remedies of `analysis.remedies.drawn.remedy_rows`.
    """
    panels = frame.select("run", "order").unique(maintain_order=True).rows()
    names = frame["remedy"].unique(maintain_order=True).to_list()
    best = frame.filter("best_of_kind")["remedy"].unique(maintain_order=True).to_list()[:COLOURED]
    safe = sns.color_palette("colorblind")
    colours = {name: safe[COLOURS[k]] for k, name in enumerate(best)}
    places = _places(frame, names)
    dots_height = ROW * (max(places.values()) + 1)
    figure = Figure(figsize=(WIDTH, 2.6 + dots_height), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False, height_ratios=[1.7, dots_height], sharey="row")
    factors = frame.filter(pl.col("factor") > 1)["factor"].unique().sort().to_list()
    shades = {f: SEQUENTIAL(0.88 * k / max(1, len(factors) - 1)) for k, f in enumerate(factors)}
    limits = _limits(frame)
    apart = ", " if len(panels) <= 4 else "\n"  # narrow columns
    for column, (run, order) in enumerate(panels):
        rows = frame.filter(pl.col("run") == run, pl.col("order") == order)
        _draw_curves(axes[0, column], rows, colours)
        panel_title(axes[0, column], style[run].label, f"L0 = {rows['L0'][0]}{apart}{order}")
        _draw_dots(axes[1, column], rows, places, shades, limits)
    _finish_dots(axes[1], places, colours)
    axes[0, 0].set_ylabel("PSNR (dB)")
    middle = axes[1, len(panels) // 2]
    middle.set_xlabel("PSNR(T) \u2212 PSNR(L0) (dB)", x=0.5 if len(panels) % 2 else 0.0)
    axes[0, len(panels) // 2].set_xlabel("T / L0 (training lengths)", x=0.5 if len(panels) % 2 else 0.0)
    _legends(figure, frame, colours, shades)
    return figure


def _places(frame: pl.DataFrame, names: list[str]) -> dict[str, float]:
    """Row of each remedy from the top; vanilla and controls below a gap."""
    proper = set(frame.filter(pl.col("rank").is_not_null())["remedy"])
    return {name: k + (0.0 if name in proper else 0.8) for k, name in enumerate(names)}


def _limits(frame: pl.DataFrame) -> tuple[float, float]:
    """Ends of the axis of differences: all of vanilla and the controls, and all but the lowest few of the remedies."""
    low = min(frame.filter(pl.col("rank").is_null())["delta_lo"].min(), frame["delta_lo"].quantile(0.05))
    high = max(0.0, frame["delta_hi"].max())
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _draw_curves(ax: Axes, rows: pl.DataFrame, colours: dict) -> None:
    for name, line in _lines(rows):
        if name in colours:
            ax.plot(line["factor"], line["psnr"], color=colours[name], zorder=4)
            ax.fill_between(
                line["factor"], line["seeds_lo"], line["seeds_hi"], color=colours[name], alpha=0.2, linewidth=0
            )
        elif name in REFERENCES:
            ax.plot(line["factor"], line["psnr"], color="black", linewidth=1.1, linestyle=REFERENCES[name], zorder=3)
        elif line["rank"][0] is not None:
            ax.plot(line["factor"], line["psnr"], color=FAINT, linewidth=0.8, zorder=1)
    if rows["longer"][0] is not None:
        ax.axhline(rows["longer_psnr"][0], color=FAR, linewidth=0.9, linestyle=LONGER, zorder=2)
    log2_axis(ax.xaxis, rows["factor"].to_list(), most=5)
    ax.spines[["top", "right"]].set_visible(False)


def _lines(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    for name, line in rows.group_by("remedy", maintain_order=True):
        yield name[0], line.sort("factor")


def _draw_dots(ax: Axes, rows: pl.DataFrame, places: dict, shades: dict, limits: tuple[float, float]) -> None:
    low, high = limits
    for place in places.values():
        if place % 2 < 1:
            ax.axhspan(place - 0.5, place + 0.5, color="0.965", linewidth=0, zorder=0)
    ax.axvline(0, color=FAR, linewidth=0.7, zorder=1)
    for row in rows.filter(pl.col("factor") > 1).iter_rows(named=True):
        shift = (list(shades).index(row["factor"]) - (len(shades) - 1) / 2) * 0.72 / len(shades)
        y, colour = places[row["remedy"]] + shift, shades[row["factor"]]
        if not low <= row["delta"] <= high:
            left = row["delta"] < low
            ax.plot(low if left else high, y, "<" if left else ">", color=colour, markersize=3, clip_on=False, zorder=3)
            continue
        ax.plot([max(low, row["delta_lo"]), min(high, row["delta_hi"])], [y, y], color=colour, linewidth=0.8, zorder=2)
        proper = row["rank"] is not None
        marker = MARKERS[row["mode"]] if proper else NO_REMEDY
        size = {"o": 3.4, "D": 3.0, NO_REMEDY: 4.6}[marker]
        ax.plot(
            row["delta"],
            y,
            marker,
            color=colour,
            markersize=size,
            markerfacecolor=colour if row["beats"] else "white",
            markeredgewidth=1.3 if marker == NO_REMEDY else 0.7,
            zorder=3,
        )
    ax.set_xlim(low, high)
    ax.locator_params(axis="x", nbins=5)


def _finish_dots(axes: list[Axes], places: dict[str, float], colours: dict) -> None:
    first = axes[0]
    first.set_yticks(list(places.values()), [name.replace("_", " ") for name in places], fontsize=6.5)
    first.set_ylim(max(places.values()) + 0.6, -0.6)
    for label, name in zip(first.get_yticklabels(), places, strict=True):
        if name in colours:
            label.set(color=colours[name], fontweight="bold")
    for ax in axes:
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)


def _legends(figure: Figure, frame: pl.DataFrame, colours: dict, shades: dict) -> None:
    above = [Line2D([], [], color=colour, label=name.replace("_", " ")) for name, colour in colours.items()]
    above += [
        Line2D([], [], color="black", linewidth=1.1, linestyle=dashes, label=name.replace("_", " "))
        for name, dashes in REFERENCES.items()
        if name in set(frame["remedy"])
    ]
    above.append(Line2D([], [], color=FAINT, linewidth=0.8, label="other remedies"))
    if frame["longer"].drop_nulls().len():
        above.append(
            Line2D([], [], color=FAR, linewidth=0.9, linestyle=LONGER, label="generalist of the longer L0, at its L0")
        )
    figure.legend(handles=above, loc="outside upper center", ncol=5, columnspacing=1.2, handlelength=2)
    below = [
        Line2D([], [], color=shade, marker="s", linestyle="", markersize=4, label=f"T = {factor:g} L0")
        for factor, shade in shades.items()
    ]
    below += [
        Line2D([], [], color=FAR, marker=marker, linestyle="", markersize=3.6, label=f"{mode} mode")
        for mode, marker in MARKERS.items()
    ]
    dot = {"color": FAR, "linestyle": ""}
    open_dot = Line2D([], [], marker="o", markersize=3.6, markerfacecolor="white", **dot)
    open_dot.set_label("not shown to beat freeze and both subsets")
    below += [open_dot, Line2D([], [], marker=NO_REMEDY, markersize=4.6, markeredgewidth=1.3, label="no remedy", **dot)]
    figure.legend(handles=below, loc="outside lower center", ncol=4, columnspacing=1.2, handletextpad=0.3)


def fig_remedies_retention(frame: pl.DataFrame, style: Style) -> Figure:
    """Retention maps of vanilla and of the best remedies, one row of panels for each run, on one colour scale; mean over seeds.

    Args:
        frame: figure_remedies_retention of `analysis.remedies.drawn.retention_rows`.
    """
    panels = frame.select("run", "remedy").unique(maintain_order=True).rows()
    maps = [frame.filter(pl.col("run") == run, pl.col("remedy") == remedy) for run, remedy in panels]
    titles = [
        (remedy.replace("_", " "), f"{style[run].label}, L0 = {rows['L0'][0]}")
        for (run, remedy), rows in zip(panels, maps, strict=True)
    ]
    return draw_maps(maps, titles, len({remedy for _, remedy in panels}))

"""One family at several training budgets: what is reached, and whether another doubling changes a comparison."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lgmamba.analysis.comparisons import ADAPTIVE_BEHIND, ADAPTIVE_LEAD, CHANGE, LEVEL, SPECIALIST_LEAD
from lgmamba.figures.levels import by_level
from lgmamba.figures.style import FAR, LINES, MARKERS, WIDTH, Style, legend_below

ROLES = {"specialist": "specialist", "generalist": "generalist", "adaptive": "length-adaptive"}
DIFFERENCES = {
    SPECIALIST_LEAD: "specialist \u2212 generalist",
    ADAPTIVE_LEAD: "adaptive \u2212 generalist",
    ADAPTIVE_BEHIND: "adaptive \u2212 specialist",
}


def fig_budget(frame: pl.DataFrame, style: Style) -> Figure:
    """Levels at the lengths with a specialist; differences at those; change from L0 to twice L0. Where classes are named, a second row
    of panels has the same of accuracy.

    Args:
        frame: `analysis.comparisons.budget_frame`.
    """
    levels = by_level(frame, style)
    figure = Figure(figsize=(WIDTH, 3.6 * len(levels)), layout="constrained")
    for (left, middle, right), (here, looks) in zip(
        figure.subplots(len(levels), 3, squeeze=False), levels, strict=True
    ):
        _draw(left, middle, right, here, looks)
    return figure


def _draw(levels: Axes, differences: Axes, change: Axes, frame: pl.DataFrame, style: Style) -> None:
    budgets = sorted(frame["budget"].unique())
    colours = {role: style[_first(frame, role)].colour for role in ROLES}
    lengths = sorted(frame.filter(pl.col("measure") == LEVEL)["step"].unique())
    for ax, title, unit in (
        (levels, "Reached", style.metric.level_at("T")),
        (differences, "Compared", f"Difference at T ({style.metric.difference_unit})"),
        (change, "Read twice as long", style.metric.change("2 L0")),
    ):
        ax.set_title(title, loc="left")
        ax.set_xscale("log", base=2)
        ax.set_xticks(budgets, [f"{b / 1000:g}k" for b in budgets])
        ax.minorticks_off()
        ax.set_xlabel("Training steps")
        ax.set_ylabel(unit)
        ax.spines[["top", "right"]].set_visible(False)
    for role, label in ROLES.items():
        for k, T in enumerate(lengths):
            rows = frame.filter(pl.col("measure") == LEVEL, pl.col("role") == role, pl.col("step") == T)
            _line(levels, rows, colours[role], k, f"{label}, T = {T}")
    greys = dict(zip(DIFFERENCES, ("0.1", colours["adaptive"], colours["specialist"]), strict=True))
    for measure, label in DIFFERENCES.items():
        for k, T in enumerate(lengths):
            rows = frame.filter(pl.col("measure") == measure, pl.col("step") == T)
            _line(differences, rows, greys[measure], k, f"{label}, T = {T}")
    for role, label in ROLES.items():
        rows = frame.filter(pl.col("measure") == CHANGE, pl.col("role") == role, pl.col("factor") == 2)
        _line(change, rows, colours[role], len(lengths) - 1, label)
    for ax in (differences, change):
        ax.axhline(0, color=FAR, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
    for ax in (levels, differences, change):
        legend_below(ax, handlelength=2.2)
    change.set_yscale("symlog", linthresh=1)
    change.yaxis.set_major_locator(FixedLocator([-30, -10, -3, -1, -0.5, 0, 0.5, 1, 3, 10, 30]))
    change.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "\u2212")))
    change.yaxis.set_minor_locator(NullLocator())
    lowest, highest = change.dataLim.intervaly
    change.set_ylim(min(1.3 * lowest, -0.5), max(1.3 * highest, 0.5))


def _first(frame: pl.DataFrame, role: str) -> str:
    return frame.filter(pl.col("role") == role)["run"][0]


def _line(ax: Axes, rows: pl.DataFrame, colour: object, k: int, label: str) -> None:
    rows = rows.unique("budget", maintain_order=True).sort("budget")
    if rows.is_empty():
        return
    known = rows.drop_nulls("lo")
    ax.fill_between(known["budget"], known["lo"], known["hi"], color=colour, alpha=0.2, linewidth=0)
    ax.plot(
        rows["budget"], rows["value"], color=colour, linestyle=LINES[k], marker=MARKERS[k], markersize=3.5, label=label
    )

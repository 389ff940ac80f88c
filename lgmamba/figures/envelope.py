"""Specialists, generalist and length-adaptive run at the lengths that they were trained on."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmamba.figures.levels import by_level
from lgmamba.figures.style import FAR, WIDTH, Style, log2_axis

ROLES = {"generalist": "generalist", "adaptive": "length-adaptive"}


def fig_envelope(frame: pl.DataFrame, style: Style) -> Figure:
    """Above: PSNR at T; below: the adaptive run minus the generalist and minus the specialists, with intervals over trainings. Where
    classes are named, the same of accuracy follows.

    Args:
        frame: envelope of `analysis.frames.envelope_frame`.
    """
    names, levels = frame["family"].unique(maintain_order=True).to_list(), by_level(frame, style)
    height = 4.4 if len(levels) == 1 else 3.4 * len(levels)
    figure = Figure(figsize=(min(WIDTH, 4.6 * len(names)), height), layout="constrained")
    axes = figure.subplots(
        2 * len(levels), len(names), squeeze=False, sharex="col", height_ratios=[2.6, 1] * len(levels)
    )
    for row, (here, looks) in enumerate(levels):
        for column, name in enumerate(names):
            family = here.filter(pl.col("family") == name)
            above, below = axes[2 * row : 2 * row + 2, column]
            if family.is_empty():  # its runs name no class
                above.axis("off")
                below.axis("off")
                continue
            _draw_levels(above, family, looks)
            _draw_differences(below, family, looks)
        axes[2 * row, 0].set_ylabel(looks.metric.level_at("T"))
        axes[2 * row + 1, 0].set_ylabel(f"Difference ({looks.metric.difference_unit})")
    for column, name in enumerate(names):
        family = frame.filter(pl.col("family") == name)
        axes[0, column].set_title(f"Lengths of {style[name].label} (L0 = {family['L0'][0]})", loc="left")
        log2_axis(axes[-1, column].xaxis, family["step"].to_list())
        axes[-1, column].set_xlabel(f"Sequence length T ({style.steps})")
    return figure


def _draw_levels(ax: Axes, family: pl.DataFrame, style: Style) -> None:
    for role in ("generalist", "adaptive"):
        rows = family.filter(pl.col("role") == role)
        look = style[rows["run"][0]]
        ax.fill_between(rows["step"], rows["seeds_lo"], rows["seeds_hi"], color=look.colour, alpha=0.25, linewidth=0)
        ax.plot(
            rows["step"],
            rows["psnr"],
            **look.stroke,
            marker=look.marker,
            markersize=3,
            label=f"{look.label} ({ROLES[role]})",
        )
    specialists = family.filter(pl.col("role") == "specialist")
    ax.plot(specialists["step"], specialists["psnr"], color=FAR, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    for row in specialists.iter_rows(named=True):
        look = style[row["run"]]
        ax.plot([row["step"]] * 2, [row["seeds_lo"], row["seeds_hi"]], color=look.colour, linewidth=1.2)
        ax.plot(
            row["step"], row["psnr"], "*", color=look.colour, markersize=9, markeredgecolor="black", markeredgewidth=0.5
        )
    ax.spines[["top", "right"]].set_visible(False)
    if len(specialists):
        ax.plot(
            [],
            [],
            "*",
            color="white",
            markersize=9,
            markeredgecolor="black",
            markeredgewidth=0.5,
            label="specialist trained at this T",
        )
    ax.legend(loc="lower right", handlelength=1.8)


def _draw_differences(ax: Axes, family: pl.DataFrame, style: Style) -> None:
    """Adaptive run minus the generalist at every length, and minus the specialist where there is one."""
    rows = family.filter(pl.col("role") == "adaptive")
    look = style[rows["run"][0]]
    ax.axhline(0, color=FAR, linewidth=0.7, linestyle=(0, (4, 3)))
    ax.plot(rows["step"], rows["gain"], **look.stroke, marker=look.marker, markersize=3, label="minus the generalist")
    known = rows.drop_nulls("gain_lo")
    ax.fill_between(known["step"], known["gain_lo"], known["gain_hi"], color=look.colour, alpha=0.25, linewidth=0)
    beside = rows.drop_nulls("beside")
    for row in beside.drop_nulls("beside_lo").iter_rows(named=True):
        ax.plot([row["step"]] * 2, [row["beside_lo"], row["beside_hi"]], color="black", linewidth=1)
    if len(beside):
        ax.plot(beside["step"], beside["beside"], "*", color="black", markersize=7, label="minus the specialist")
    ax.legend(loc="best", handlelength=1.8)
    ax.spines[["top", "right"]].set_visible(False)

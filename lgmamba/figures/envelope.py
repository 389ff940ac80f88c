"""Specialists, generalist and length-adaptive run at the lengths that they were trained on."""

import math

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmamba.figures.levels import by_level
from lgmamba.figures.style import FAR, WIDTH, Style, log2_axis

COLUMNS = 2
"""Families side by side; more have rows of their own."""
ROLES = {"generalist": "generalist", "adaptive": "length-adaptive"}


def fig_envelope(frame: pl.DataFrame, style: Style) -> Figure:
    """Above: PSNR at T; below: the adaptive run minus the generalist and minus the specialists, with intervals over trainings. Where
    classes are named, the same of accuracy follows.

    Args:
        frame: envelope of `analysis.frames.envelope_frame`.
    """
    names, levels = frame["family"].unique(maintain_order=True).to_list(), by_level(frame, style)
    columns, blocks = min(len(names), COLUMNS), math.ceil(len(names) / COLUMNS)
    height = 4.4 * blocks if len(levels) == 1 else 3.4 * len(levels) * blocks
    figure = Figure(figsize=(min(WIDTH, 4.6 * columns), height), layout="constrained")
    axes = figure.subplots(
        2 * len(levels) * blocks, columns, squeeze=False, height_ratios=[2.6, 1] * len(levels) * blocks
    )
    for at, name in enumerate(names):
        block, column = divmod(at, columns)
        own = axes[2 * len(levels) * block : 2 * len(levels) * (block + 1), column]
        for ax in own[:-1]:  # families have lengths of their own
            ax.sharex(own[-1])
            ax.tick_params(labelbottom=False)
        for row, (here, looks) in enumerate(levels):
            family = here.filter(pl.col("family") == name)
            above, below = own[2 * row : 2 * row + 2]
            if column == 0:
                above.set_ylabel(looks.metric.level_at("T"))
                below.set_ylabel(f"Difference ({looks.metric.difference_unit})")
            if family.is_empty():  # its runs name no class
                above.axis("off")
                below.axis("off")
                continue
            _draw_levels(above, family, looks)
            _draw_differences(below, family, looks)
        family = frame.filter(pl.col("family") == name)
        own[0].set_title(f"Lengths of {style[name].label} (L0 = {family['L0'][0]})", loc="left")
        log2_axis(own[-1].xaxis, family["step"].to_list())
        own[-1].set_xlabel(f"Sequence length T ({style.steps})")
    for ax in axes[-2 * len(levels) :, columns - (columns * blocks - len(names)) :].flat:
        ax.axis("off")
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

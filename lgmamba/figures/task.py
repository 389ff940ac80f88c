"""The task, drawn from real data: an image is read patch by patch, and reconstructed from what was read."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lgmamba.analysis.panel import Panel
from lgmamba.figures.pictures import show
from lgmamba.figures.style import WIDTH, Style

FIRST_PLACES = 8
"""Places whose outlines are drawn."""

ROWS = {"this patch": "patch read\nat step t", "patches read": "patches read\nup to t"}


def fig_task(frame: pl.DataFrame, style: Style, panel: Panel) -> Figure:
    """The image; then for several steps the patch read, all patches read so far, and reconstructions by two runs.

    Args:
        frame: figure_task of `analysis.figure_data.task_rows`, one row for each tile.
        panel: the pictures.
    """
    steps, rows = (frame[name].unique(maintain_order=True).to_list() for name in ("step", "row"))
    image = frame["image"][0]
    widths = [1.7, 0.95, *[1.0] * len(steps)]
    tile = WIDTH / (sum(widths) * 1.06)
    figure = Figure(figsize=(WIDTH, 1.08 * tile * len(rows) + 0.3))
    grid = figure.add_gridspec(
        len(rows), len(widths), width_ratios=widths, wspace=0.08, hspace=0.1, left=0.01, right=0.99, top=0.9, bottom=0.1
    )
    _draw_image(figure.add_subplot(grid[:, 0]), panel, image)
    axes = {
        (row, step): figure.add_subplot(grid[r, 2 + s]) for r, row in enumerate(rows) for s, step in enumerate(steps)
    }
    for step, cell, row, run, psnr in frame.select("step", "cell", "row", "run", "psnr").rows():
        ax = axes[row, step]
        if run is not None:
            show(ax, panel.reconstruction(run, step, image))
            ax.text(
                0.97,
                0.03,
                f"{psnr:.1f}",
                transform=ax.transAxes,
                ha="right",
                va="bottom",
                fontsize=5.5,
                bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.8},
            )
        else:
            show(ax, panel.target(image), panel.cell_mask(cell) if row == "this patch" else panel.mask(step, image))
    for row in rows:
        words = ROWS.get(row) or f"rebuilt by\n{style[row].label}"
        axes[row, steps[0]].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=7, labelpad=4)
    for position, step in enumerate(steps):
        axes[rows[0], step].set_title(f"t = {step}" if position == 0 else f"{step}", pad=3, fontsize=7.5)
    return figure


def _draw_image(ax: Axes, panel: Panel, image: int) -> None:
    """The image with the number of the step at which each cell, or each of the first places, is first read."""
    target = panel.target(image)
    show(ax, target)
    ax.set_anchor("N")  # the words below it are then beside no row's name
    P, (H, W) = panel.patch_size, target.shape[1:]
    order = list(dict.fromkeys(panel.cells[image].tolist()))
    if panel.reads == "places":
        order = order[:FIRST_PLACES]  # they overlap
    size = 6.5 if len(order) <= 16 else 3.6
    for turn, cell in enumerate(order, start=1):
        y, x = panel.corner(cell)
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), P, P, fill=False, edgecolor="white", linewidth=0.5))
        ax.text(
            x + (P - 1) / 2, y + (P - 1) / 2, str(turn), ha="center", va="center", fontsize=size, color="black",
            bbox={"facecolor": "white", "alpha": 0.65, "linewidth": 0, "pad": 0.4, "boxstyle": "round,pad=0.15"},
        )  # fmt: skip
    ax.set_title(f"image, {H} \u00d7 {W} pixels", pad=3, fontsize=7.5)
    what = "the first patches" if panel.reads == "places" else "cells"
    ax.set_xlabel(f"{what} numbered in the\norder they are read", fontsize=6.5)

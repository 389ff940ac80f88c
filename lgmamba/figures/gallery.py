"""The same held-out images as every run reconstructs them after more and more patches."""

from typing import Any

import polars as pl
from matplotlib.figure import Figure

from lgmamba.analysis.panel import Panel
from lgmamba.figures.pictures import show
from lgmamba.figures.style import BOUNDARY, WIDTH, Style, inches

PITCH = 1.06  # from one tile to the next, tile widths
BLOCK_GAP = 0.35  # between two images, tile widths
NUMBER: dict[str, Any] = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.4}  # behind the PSNR of a tile
LABELS = 1.0  # room for the names of the rows, inches
TALLEST = 7.0  # inches; many rows of few pictures would fill pages


def fig_gallery(frame: pl.DataFrame, style: Style, panel: Panel) -> Figure:
    """Rows = runs below the patches read, columns = steps, one block for each image; red line = the run's L0.

    Args:
        frame: figure_gallery of `analysis.figure_data.gallery_rows`, one row for each tile.
        panel: the pictures.
    """
    images, steps, rows = (frame[name].unique(maintain_order=True).to_list() for name in ("image", "step", "row"))
    H, W = panel.targets.shape[2:]
    down = H / W + PITCH - 1  # from one row to the next
    block = len(steps) * PITCH + BLOCK_GAP
    width, height = len(images) * block - BLOCK_GAP, len(rows) * down + 0.4
    tile = min((WIDTH - LABELS) / width, TALLEST / height)
    figure = Figure(figsize=(LABELS + width * tile, height * tile))
    letters = 7 * min(
        1.0, 0.8 * PITCH * tile / inches(f"{steps[-1]}", 7)
    )  # of small tiles the longest steps would touch
    ax = figure.subplots()
    left = {(image, step): b * block + i * PITCH for b, image in enumerate(images) for i, step in enumerate(steps)}
    for image, step, row, run, psnr in frame.select("image", "step", "row", "run", "psnr").rows():
        x, y = left[image, step], rows.index(row) * down
        if run is None:
            show(ax, panel.target(image), panel.mask(step, image), at=(x, y))
            above = f"t = {step}" if step == steps[0] else f"{step}"
            ax.text(x + 0.5, y - 0.1, above, ha="center", va="bottom", fontsize=letters)
        else:
            show(ax, panel.reconstruction(run, step, image), at=(x, y))
            corner = (x + 0.96, y + H / W - 0.04)
            ax.text(*corner, f"{psnr:z.0f}".replace("-", "\u2212"), ha="right", va="bottom", fontsize=4.5, bbox=NUMBER)
    for position, row in enumerate(rows):
        words = style[row].label if row in style.looks else row
        ax.text(-0.12, position * down + H / W / 2, words, ha="right", va="center", fontsize=7)
    within = (
        frame.filter(pl.col("beyond").not_()).group_by("image", "row", maintain_order=True).agg(pl.col("step").max())
    )
    for image, row, step in within.rows():
        if step != steps[-1]:
            x = left[image, step] + (1 + PITCH) / 2
            y = rows.index(row) * down
            ax.plot([x, x], [y - 0.04, y + H / W + 0.04], color=BOUNDARY, linewidth=2, solid_capstyle="butt", zorder=10)
    ax.set(xlim=(-0.02, width - PITCH + 1.02), ylim=(len(rows) * down, -0.4), aspect="equal")
    return figure

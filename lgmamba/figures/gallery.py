"""The same held-out images as every run reconstructs them after more and more patches."""

import matplotlib.pyplot as plt
import polars as pl
from matplotlib.figure import Figure

from lgmamba.analysis.panel import Panel
from lgmamba.figures.pictures import show
from lgmamba.figures.style import WIDTH, Style


def fig_gallery(frame: pl.DataFrame, style: Style, panel: Panel) -> Figure:
    """Rows = runs below the patches read, columns = steps, one block for each image; red line = the run's L0.

    Args:
        frame: figure_gallery of `analysis.drawn.gallery_rows`, one row for each tile.
        panel: the pictures.
    """
    images, steps, rows = (frame[name].unique(maintain_order=True).to_list() for name in ("image", "step", "row"))
    columns = len(steps) * len(images) + len(images) - 1  # one narrow empty column between two blocks
    widths = ([1.0] * len(steps) + [0.35]) * len(images)
    tile = (WIDTH - 1.1) / sum(widths[:columns])
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(WIDTH, 1.12 * tile * len(rows) + 0.35), squeeze=False, width_ratios=widths[:columns], gridspec_kw={"wspace": 0.06, "hspace": 0.1}
    )
    for gap in range(len(steps), columns, len(steps) + 1):
        for ax in axes[:, gap]:
            ax.axis("off")
    for image, step, row, run in frame.select("image", "step", "row", "run").rows():
        ax = axes[rows.index(row), images.index(image) * (len(steps) + 1) + steps.index(step)]
        if run is None:
            show(ax, panel.target(image), panel.mask(step, image))
            ax.set_title(f"t = {step}" if step == steps[0] else f"{step}", pad=2, fontsize=7)
        else:
            show(ax, panel.reconstruction(run, step, image))
    for position, row in enumerate(rows):
        words = style[row].label if row in style.looks else row
        axes[position, 0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=7, labelpad=4)
    _mark_boundaries(frame, axes, rows, steps, len(images))
    return figure


def _mark_boundaries(frame: pl.DataFrame, axes: object, rows: list[str], steps: list[int], images: int) -> None:
    """A thick line between the last step within the training length and the first beyond it."""
    last = frame.filter(pl.col("beyond").not_()).group_by("row").agg(pl.col("step").max())
    for row, step in last.rows():
        for block in range(images):
            if step != steps[-1]:
                ax = axes[rows.index(row), block * (len(steps) + 1) + steps.index(step)]
                ax.plot([1.03, 1.03], [-0.06, 1.06], transform=ax.transAxes, color="#d1001f", linewidth=2, clip_on=False, solid_capstyle="butt", zorder=10)

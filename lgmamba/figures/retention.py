"""Retention maps: the error of a cell against the step and the time since the cell was last read."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lgmamba.analysis.numbers import greatest, quantile
from lgmamba.figures.style import BESIDE_BAR, SEQUENTIAL, Style, colour_bar, grid_of_axes, panel_title, shared_labels
from lgmamba.metrics import LEAST_MSE

COLUMNS = 4


def fig_retention(frame: pl.DataFrame, style: Style) -> Figure:
    """One map for each run on one colour scale; mean over seeds.

    Args:
        frame: figure_retention of `analysis.figure_data.retention_rows`: ages in octaves, age_low..age_high, -1 = not read yet.
    """
    runs = frame["run"].unique(maintain_order=True).to_list()
    maps = [frame.filter(pl.col("run") == run) for run in runs]
    titles = [(style[run].label, f"L0 = {rows['L0'][0]}") for run, rows in zip(runs, maps, strict=True)]
    return draw_maps(maps, titles, COLUMNS)


def draw_maps(maps: list[pl.DataFrame], titles: list[tuple[str, str]], columns: int) -> Figure:
    """Retention maps side by side on one colour scale.

    The strip below each map is the cells not read yet. Dashed: the right end of the column of L0. The scale is logarithmic
    and ends at the 2nd and 98th percentile of all cells; what lies outside has the last colour.

    Args:
        maps: one frame for each panel: L0, step, age_low, age_high, mse.
        titles: title and detail of each.
        columns: panels in a row.
    """
    frame = pl.concat(maps)
    figure, axes = grid_of_axes(len(maps), columns, 1.95, sharex=True, sharey=True)
    least = max(quantile(frame["mse"], 0.02), LEAST_MSE)  # a perfect copy has no logarithm
    norm = LogNorm(least, max(quantile(frame["mse"], 0.98), 1.01 * least))
    steps = frame["step"].unique().sort().to_list()
    for ax, rows, title in zip(axes, maps, titles, strict=True):
        _draw_map(ax, rows, norm)
        boundary = _edges(rows)[rows["L0"][0]][1]
        ax.axvline(boundary, color="white", linewidth=1.8)
        ax.axvline(boundary, color="black", linewidth=1, linestyle=(0, (3, 2)))
        panel_title(ax, *title, share=BESIDE_BAR)
    oldest = int(np.log2(1 + greatest(frame["age_high"])))
    octaves = int(np.log2(max(steps))) + 1
    ticks = range(0, octaves, 2 if octaves <= 9 else 4)
    axes[0].set_xticks(list(ticks), [f"{2**k}" for k in ticks])
    ages = range(0, oldest + 1, 2 if oldest > 5 else 1)
    axes[0].set_yticks([-1, *(k + 0.5 for k in ages)], ["not read", *(_octave(k) for k in ages)])
    axes[0].set(xlim=(np.log2(min(steps)) - 0.5, np.log2(max(steps)) + 0.5), ylim=(-1.5, oldest + 1))
    shared_labels(figure, "Step t (patches)", "Age (steps since read)")
    colour_bar(figure, axes, ScalarMappable(norm, SEQUENTIAL), "MSE (pixel value$^2$)", extend="both")
    return figure


def _draw_map(ax: Axes, rows: pl.DataFrame, norm: Normalize) -> None:
    """Age octave k covers k..k+1, cells not read -1.5..-0.5."""
    edges = _edges(rows)
    boxes, colours = [], []
    for step, low, mse in rows.select("step", "age_low", "mse").rows():
        x0, x1 = edges[step]
        y0 = -1.5 if low < 0 else np.log2(1 + low)
        boxes.append(Rectangle((x0, y0), x1 - x0, 1))
        colours.append(SEQUENTIAL(norm(max(mse, LEAST_MSE))))
    ax.add_collection(PatchCollection(boxes, facecolors=colours, edgecolors=colours, linewidths=0.2))


def _edges(rows: pl.DataFrame) -> dict[int, tuple[float, float]]:
    """{step: left and right end of its column, log2}; a column reaches half way to its neighbours."""
    steps = rows["step"].unique().sort().to_list()
    x = np.log2(steps)
    ends = np.concatenate([[x[0] - 0.5], (x[1:] + x[:-1]) / 2, [x[-1] + 0.5]])
    return {step: (ends[i], ends[i + 1]) for i, step in enumerate(steps)}


def _octave(k: int) -> str:
    low, high = 2**k - 1, 2 ** (k + 1) - 2
    return str(low) if low == high else f"{low}\u2013{high}"

"""Validation during training."""

import math

import numpy as np
import polars as pl
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from lgmamba.analysis.numbers import greatest
from lgmamba.figures.levels import by_level
from lgmamba.figures.style import BESIDE_BAR, SEQUENTIAL, WIDTH, Style, colour_bar, grid_in, panel_title, shared_labels

COLUMNS = 4


def fig_training(frame: pl.DataFrame, style: Style) -> Figure:
    """One panel for each run, one line for each sequence length; line = mean over seeds, band = lowest to highest seed; a dot where a run
    was validated once, at its end. Where classes are named, the same of accuracy follows below.

    Args:
        frame: figure_training of `analysis.figure_data.training_rows`.
    """
    levels = by_level(frame, style)
    rows = [math.ceil(here["run"].n_unique() / COLUMNS) for here, _ in levels]
    figure = Figure(figsize=(WIDTH, 1.8 * sum(rows)), layout="constrained")
    parts = figure.subfigures(len(levels), 1, squeeze=False, height_ratios=rows)[:, 0]
    for part, (here, looks) in zip(parts, levels, strict=True):
        _draw(part, here, looks)
    return figure


def _draw(part: SubFigure, frame: pl.DataFrame, style: Style) -> None:
    runs = frame["run"].unique(maintain_order=True).to_list()
    axes = grid_in(part, len(runs), COLUMNS, sharex=True, sharey=True)
    highest = max(1.0, float(np.log2(greatest(frame["length"]))))
    norm = Normalize(0, highest)
    for ax, run in zip(axes, runs, strict=True):
        rows = frame.filter(pl.col("run") == run)
        for length, line in rows.group_by("length", maintain_order=True):
            colour = SEQUENTIAL(0.92 * norm(np.log2(length[0])))
            ax.fill_between(line["step"], line["psnr_lo"], line["psnr_hi"], color=colour, alpha=0.25, linewidth=0)
            alone = "o" if len(line) == 1 else None  # a line of one point would not be seen
            ax.plot(line["step"], line["psnr"], color=colour, linewidth=1.1, marker=alone, markersize=3)
        panel_title(ax, style[run].label, f"L0 = {rows['L0'][0]}", BESIDE_BAR)
        ax.spines[["top", "right"]].set_visible(False)
        ax.locator_params(axis="x", nbins=4)
    metric = style.metric
    shared_labels(part, "Optimiser step", f"Validation {metric.title.replace(metric.label, metric.in_words)}")
    shown = sorted(frame["length"].unique().to_list())
    scale = ScalarMappable(Normalize(0, highest / 0.92), SEQUENTIAL)
    bar = colour_bar(part, axes, scale, f"Sequence length ({style.steps})", ticks=np.log2(shown))
    bar.ax.set_ylim(0, highest)
    bar.set_ticklabels([str(length) for length in shown])

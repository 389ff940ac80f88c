"""The same test images as they are reconstructed along w."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lgmamba.figures.style import WIDTH, Style
from lgmamba.tradeoff.config import TradeoffParams


def pictures_drawn(frames: dict[str, pl.DataFrame], params: TradeoffParams) -> pl.DataFrame:
    """One row for each picture, weight null for the image itself, with its size and its stack's name."""
    chosen = params.tradeoff.pictures
    side = params.data.size
    channels = 1 if params.data.channels == "grey" else 3
    frame = frames["pictures"]
    if side is None:  # square, as it is in every source of unknown size here, or it cannot be drawn
        length = round((len(frame["pixels"][0]) / channels) ** 0.5)
        side = (length, length)
    return frame.with_columns(
        pl.lit(f"{chosen.encoder}, m = {chosen.latent}, seed {params.seeds[0]}").alias("stack"),
        pl.lit(channels).alias("channels"),
        pl.lit(side[0]).alias("height"),
        pl.lit(side[1]).alias("width"),
    )


def fig_pictures(frame: pl.DataFrame, style: Style) -> Figure:
    """Rows: images; columns: the image, then w from 0 to 1. One scale of grey, 0 to 255, for all."""
    weights = [None, *sorted(frame["weight"].drop_nulls().unique().to_list())]
    images = sorted(frame["image"].unique().to_list())
    C, H, W = (frame[name][0] for name in ("channels", "height", "width"))
    cell = WIDTH / len(weights)
    figure = Figure(
        figsize=(WIDTH, cell * len(images) * H / W + 0.45),
        layout=ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02),
    )
    axes = figure.subplots(len(images), len(weights), squeeze=False)
    for k, w in enumerate(weights):
        axes[0][k].set_title("image" if w is None else f"w = {w:g}", fontsize=7)
        column = frame.filter(pl.col("weight").is_null() if w is None else pl.col("weight") == w).sort("image")
        for i, values in enumerate(column["pixels"].to_list()):
            picture = np.array(values, np.uint8).reshape(C, H, W).transpose(1, 2, 0)
            ax = axes[i][k]
            ax.imshow(picture[..., 0] if C == 1 else picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_linewidth(0.4)
    figure.suptitle(f"{frame['stack'][0]}".replace("_", " "), fontsize=7.5, x=0.01, ha="left")
    return figure

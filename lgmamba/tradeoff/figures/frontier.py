"""Accuracy against PSNR along w: one panel for each family of encoders."""

import math

import polars as pl
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lgmamba.figures.style import FAR, LINES, SEQUENTIAL, Style, colour_bar, grid_of_axes, shared_labels
from lgmamba.tradeoff.config import TradeoffParams
from lgmamba.tradeoff.encoders import TITLES

NAMED = (0.0, 0.1, 0.9, 1.0)
"""Weights that are written beside their points."""


def at_weights(summary: pl.DataFrame, variants: tuple[str, ...]) -> pl.DataFrame:
    """PSNR and accuracy of every weight with their intervals, one row for each stack, kind of row and weight."""
    keys = ["stack", "variant", "encoder", "family", "size", "latent", "what", "weight"]
    rows = summary.filter(pl.col("variant").is_in(variants), pl.col("measure").is_in(["psnr", "accuracy"]))
    frames = [
        rows.filter(measure=name).select(
            *keys,
            pl.col("value").alias(name),
            pl.col("lo").alias(f"{name}_lo"),
            pl.col("hi").alias(f"{name}_hi"),
            "n_seeds",
        )
        for name in ("psnr", "accuracy")
    ]
    joined = frames[0].join(frames[1].drop("n_seeds"), on=keys, how="full", coalesce=True, nulls_equal=True)
    return joined.sort("family", "size", "latent", "stack", "weight", descending=[False, True, False, False, False])


def frontier_drawn(frames: dict[str, pl.DataFrame], params: TradeoffParams) -> pl.DataFrame:
    """Rows of `at_weights` of the frontier."""
    return at_weights(frames["summary"], ("main",))


def latent_colours(latents: list[int]) -> tuple[dict[int, object], ScalarMappable]:
    """One colour for each latent size, evenly along the map, and what a colour bar needs."""
    shown = {m: SEQUENTIAL(0.9 * k / max(1, len(latents) - 1)) for k, m in enumerate(latents)}
    listed = ListedColormap([shown[m] for m in latents])
    return shown, ScalarMappable(BoundaryNorm(range(len(latents) + 1), len(latents)), listed)


def fig_frontier(frame: pl.DataFrame, style: Style) -> Figure:
    """Colour: latent size; line: size of the network; points: weights, from w = 0 (top left) to w = 1."""
    present = frame["family"].unique(maintain_order=True).to_list()
    families = [*(f for f in TITLES if f in present), *(f for f in present if f not in TITLES)]
    latents = sorted(frame["latent"].unique().to_list())
    colours, mappable = latent_colours(latents)
    figure, axes = grid_of_axes(len(families), 3, 2.9, sharey=True)
    for ax, family in zip(axes, families, strict=True):
        ax.set_title(TITLES.get(family, family), loc="left")
        ax.spines[["top", "right"]].set_visible(False)
        here = frame.filter(family=family)
        for (_stack,), rows in here.group_by("stack", maintain_order=True):
            rows = rows.sort("weight")
            large = rows["size"][0] == "large"
            colour = colours[rows["latent"][0]]
            ax.plot(rows["accuracy"], rows["psnr"], color=colour, linestyle=LINES[1 if large else 0], linewidth=1.1)
            ax.errorbar(
                rows["accuracy"],
                rows["psnr"],
                xerr=_arms(rows, "accuracy"),
                yerr=_arms(rows, "psnr"),
                fmt="s" if large else "o",
                markersize=3,
                color=colour,
                elinewidth=0.6,
            )
        first = here.filter(latent=here["latent"].max(), size="small").sort("weight")
        for row in first.filter(pl.col("weight").is_in(NAMED)).iter_rows(named=True):
            ax.annotate(
                f"{row['weight']:g}",
                (row["accuracy"], row["psnr"]),
                (3, 3),
                textcoords="offset points",
                fontsize=6,
                color=FAR,
            )
    if frame["size"].n_unique() > 1:
        handles = [
            Line2D([], [], color="0.3", linestyle=LINES[k], marker="os"[k], markersize=3, label=f"{size} network")
            for k, size in enumerate(("small", "large"))
        ]
        axes[0].legend(handles=handles, loc="best")
    bar = colour_bar(figure, axes, mappable, "Latent size m")
    bar.set_ticks([k + 0.5 for k in range(len(latents))], labels=[str(m) for m in latents])
    bar.ax.minorticks_off()
    shared_labels(figure, "Accuracy (%)", "PSNR (dB)")
    return figure


def _arms(rows: pl.DataFrame, name: str) -> list[list[float]] | None:
    """Lengths of the error bars, below and above; None without intervals."""
    if rows[f"{name}_lo"].null_count():
        return None
    below, above = rows[name] - rows[f"{name}_lo"], rows[f"{name}_hi"] - rows[name]
    return [[max(v, 0.0) if math.isfinite(v) else 0.0 for v in side.to_list()] for side in (below, above)]

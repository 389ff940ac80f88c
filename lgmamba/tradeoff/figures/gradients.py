"""Why: the angle of the two losses' gradients while training goes on, and the dimensions that a latent uses."""

import polars as pl
from matplotlib.figure import Figure

from lgmamba.figures.style import FAR, SEQUENTIAL, WIDTH, Style
from lgmamba.tradeoff.config import TradeoffParams

PANELS = {
    "cosine_z": ("Gradients by the latent", "Cosine"),
    "cosine_encoder": ("Gradients by the encoder's weights", "Cosine"),
    "used": ("Dimensions used", "Participation ratio"),
    "eta2": ("Variance between classes", "Share of the variance of z"),
}


def gradients_drawn(frames: dict[str, pl.DataFrame], params: TradeoffParams) -> pl.DataFrame:
    """Rows of the pictured stack: cosines by weight and step; of the frontier: participation ratio and eta squared by weight."""
    chosen = params.tradeoff.pictures
    history = frames["history"].filter(variant="main", encoder=chosen.encoder, latent=chosen.latent)
    keys = ["stack", "encoder", "size", "latent", "weight"]
    cosines = history.unpivot(
        ["cosine_z", "cosine_encoder"], index=[*keys, "step"], variable_name="measure", value_name="value"
    ).filter(pl.col("weight") > 0, pl.col("weight") < 1)
    used = frames["summary"].filter(pl.col("measure").is_in(["used", "eta2"]), variant="main")
    used = used.filter(pl.col("latent") == chosen.latent).select(*keys, "measure", "value")
    return pl.concat([cosines, used], how="diagonal_relaxed")


def fig_gradients(frame: pl.DataFrame, style: Style) -> Figure:
    """Colour of the upper panels: w. Lower panels: one line for each encoder of that latent size."""
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    weights = sorted(frame.filter(measure="cosine_z")["weight"].unique().to_list())
    for ax, (measure, (title, label)) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        ax.set_title(title, loc="left")
        ax.set_ylabel(label)
        ax.spines[["top", "right"]].set_visible(False)
        rows = frame.filter(measure=measure)
        if measure.startswith("cosine"):
            for k, w in enumerate(weights):
                one = rows.filter(weight=w).sort("step")
                ax.plot(
                    one["step"], one["value"], color=SEQUENTIAL(0.9 * k / max(1, len(weights) - 1)), label=f"w = {w:g}"
                )
            ax.axhline(0, color=FAR, linewidth=0.7, zorder=0)
            ax.set_xlabel("Training steps")
        else:
            for encoder in (e for e in style.looks if e in rows["encoder"]):
                one, look = rows.filter(encoder=encoder).sort("weight"), style[encoder]
                ax.plot(
                    one["weight"], one["value"], **look.stroke, marker=look.marker, markersize=3.5, label=look.label
                )
            ax.set_xlabel("Weight of classification w")
        if measure == "cosine_encoder":
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        elif not measure.startswith("cosine"):
            ax.legend(loc="best")
    return figure

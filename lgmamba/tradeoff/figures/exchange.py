"""What the frontier comes to: exchange area and conflict gaps against the size of the latent."""

import polars as pl
from matplotlib.figure import Figure

from lgmamba.figures.style import FAR, WIDTH, Style, log2_axis
from lgmamba.tradeoff.config import TradeoffParams

PANELS = {
    "area": ("Exchange area A", "0: both at no cost; 0.5: linear"),
    "gap_r": ("Conflict gap $G_r$", "what the picture lacks at w = 1"),
    "gap_c": ("Conflict gap $G_c$", "what the class lacks at w = 0"),
}

DODGE = 1.04
"""Each encoder's points stand beside those of the one before, so that bars can be told apart."""


def exchange_drawn(frames: dict[str, pl.DataFrame], params: TradeoffParams) -> pl.DataFrame:
    """Rows of `summary` of the frontier."""
    rows = frames["summary"].filter(pl.col("measure").is_in(list(PANELS)), variant="main")
    return rows.drop("what", "weight", strict=False).sort("measure", "encoder", "latent")


def fig_exchange(frame: pl.DataFrame, style: Style) -> Figure:
    """One line for each encoder; bars: Student's interval over seeds."""
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    latents = sorted(frame["latent"].unique().to_list())
    for ax, (measure, (title, detail)) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        ax.set_title(title, loc="left", pad=14)
        ax.text(0, 1.03, detail, transform=ax.transAxes, fontsize=6.5, color="0.3")
        ax.spines[["top", "right"]].set_visible(False)
        for k, encoder in enumerate(style.looks):
            rows = frame.filter(measure=measure, encoder=encoder).sort("latent")
            if rows.is_empty():
                continue
            look = style[encoder]
            known = rows["lo"].null_count() == 0
            arms = [(rows["value"] - rows["lo"]).to_list(), (rows["hi"] - rows["value"]).to_list()] if known else None
            ax.errorbar(
                rows["latent"] * DODGE ** (k - 1),
                rows["value"],
                yerr=arms,
                color=look.colour,
                linestyle=look.line,
                marker=look.marker,
                markersize=3.5,
                elinewidth=0.7,
                capsize=1.5,
                label=look.label,
            )
        if measure == "area":
            ax.axhline(0.5, color=FAR, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
        ax.axhline(0, color=FAR, linewidth=0.7, zorder=0)
        if len(latents) > 1:
            log2_axis(ax.xaxis, latents)
        ax.set_xlabel("Latent size m")
    handles, labels = figure.axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure

"""Which modes break a checkpoint, and which remedy touches them."""

import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from lgmamba.analysis.numbers import greatest, least
from lgmamba.figures.style import COLOURS, FAR, SEQUENTIAL, WIDTH, Style, log2_axis, panel_title

GROUPS = {"short": (0, "o"), "medium": (1, "s"), "long": (2, "^"), "all": (None, "D")}
"""Group of modes -> its colour (of `COLOURS`) and marker."""
BOUNDS = {
    "short": "\u03c4 < L0/2",
    "medium": "L0/2 \u2264 \u03c4 < 2 L0",
    "long": "\u03c4 \u2265 2 L0",
    "all": "all modes",
}
INTERVENTIONS = {
    "size": "read at its\nsize of L0",
    "clamp": "growth\nforgotten",
    "hold": "held as\nat L0",
}
REMEDIES = {
    "none": "no remedy",
    "step_size": "step sizes L0/T",
    "spectrum_mult": "spectrum, s|A|",
    "spectrum_pow": "spectrum, |A|\u02e2",
    "longmamba": "LongMamba",
    "retain": "retention",
}
BEHIND = {"boxstyle": "square,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
LOWEST = 1 / 8
"""Growth below which a mode is drawn at the lower edge: the mean of its state has changed sign on the way."""


def fig_modes(frame: pl.DataFrame, style: Style) -> Figure:
    """At the longest T: forecast against measured growth of every mode; dB gained by interventions on groups of modes; growth of
    the groups under remedies, with the PSNR of each.

    Args:
        frame: figure_modes of `analysis.probes.figure_data.modes_rows`.
    """
    runs = frame["run"].unique(maintain_order=True).to_list()
    figure = Figure(figsize=(WIDTH, 2.35 * len(runs) + 0.55), layout="constrained")
    axes = figure.subplots(len(runs), 3, squeeze=False, width_ratios=[1, 1.05, 1.1])
    safe = sns.color_palette("colorblind")
    colours = {name: "black" if k is None else safe[COLOURS[k]] for name, (k, _) in GROUPS.items()}
    for (growth, gained, effects), run in zip(axes, runs, strict=True):
        rows = frame.filter(pl.col("run") == run)
        factor = greatest(rows["factor"])
        _draw_growth(growth, rows)
        _draw_gained(gained, rows, colours)
        _draw_effects(effects, rows, colours)
        where = f"{style[run].label}, T = {factor:g} L0"
        for ax, title in (
            (growth, "Growth of each mode"),
            (gained, "What breaks it"),
            (effects, "What a remedy does to it"),
        ):
            panel_title(ax, title, where)
            ax.spines[["top", "right"]].set_visible(False)
    used = [
        Line2D([], [], color=colours[n], marker=GROUPS[n][1], linestyle="", markersize=4, label=BOUNDS[n])
        for n in GROUPS
    ]
    figure.legend(handles=used, loc="outside lower center", ncols=len(used), handletextpad=0.2)
    return figure


def _draw_growth(ax: Axes, rows: pl.DataFrame) -> None:
    cells = rows.filter(pl.col("panel") == "growth").with_columns(pl.col("y").clip(lower_bound=LOWEST)).sort("weight")
    ax.scatter(
        cells["x"], cells["y"], c=cells["weight"], cmap=SEQUENTIAL, norm=LogNorm(), s=5, marker="s", linewidths=0
    )
    top = max(greatest(cells["x"]), min(greatest(cells["y"]), 2 * greatest(rows["factor"])))
    ax.plot([1, top], [1, top], color="black", linewidth=0.8)
    log2_axis(ax.xaxis, [1, top], most=6)
    log2_axis(ax.yaxis, [LOWEST, top], most=9)
    ax.set(
        xlim=(0.9, 1.15 * top),
        ylim=(LOWEST * 0.9, 1.15 * top),
        xlabel="Forecast growth from L0 to T",
        ylabel="Measured",
    )
    explained = rows.filter(pl.col("panel") == "explained", pl.col("layer") >= 0).sort("layer")
    shares = {name: explained.filter(pl.col("series") == f"{name}/energy") for name in ("memory", "writes")}
    lines = [
        f"layer {memory['layer'] + 1}: {100 * memory['y']:.0f} % ({100 * writes['y']:.0f} %)"
        for memory, writes in zip(*(found.iter_rows(named=True) for found in shares.values()), strict=True)
    ]
    text = "\n".join(lines)
    ax.text(
        0.97,
        0.03,
        f"variance explained\n{text}",
        transform=ax.transAxes,
        fontsize=6.5,
        ha="right",
        va="bottom",
        bbox=BEHIND,
    )


def _draw_gained(ax: Axes, rows: pl.DataFrame, colours: dict) -> None:
    loss = rows.filter(pl.col("panel") == "loss")["y"][0]
    ax.axhline(0, color=FAR, linewidth=0.7)
    ax.axhline(loss, color=FAR, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.annotate(
        "PSNR(L0) \u2212 PSNR(T)",
        (0.01, loss),
        (0, 2),
        ("axes fraction", "data"),
        "offset points",
        fontsize=6,
        color="0.3",
    )
    found = rows.filter(pl.col("panel") == "groups")
    for k, name in enumerate(INTERVENTIONS):
        for j, (group, (_, marker)) in enumerate(GROUPS.items()):
            row = found.filter(pl.col("series") == f"{name}/{group}").row(0, named=True)
            x = k + (j - 1.5) * 0.19
            ax.plot([x, x], [row["lo"], row["hi"]], color=colours[group], linewidth=1.4)
            ax.plot(x, row["y"], marker, color=colours[group], markersize=4)
    ax.xaxis.set_major_locator(FixedLocator(list(range(len(INTERVENTIONS)))))
    ax.set_xticklabels(INTERVENTIONS.values(), fontsize=6.5)
    ax.set_ylabel("PSNR gained (dB)")
    low, high = ax.get_ylim()
    ax.set_ylim(low, max(high, loss + 0.12 * (high - low)))


def _draw_effects(ax: Axes, rows: pl.DataFrame, colours: dict) -> None:
    effects = rows.filter(pl.col("panel") == "remedy_effects")
    ax.axvline(1, color=FAR, linewidth=0.7)
    for place, name in enumerate(REMEDIES):
        for group, (_, marker) in GROUPS.items():
            for row in effects.filter(pl.col("series") == f"{name}/{group}").iter_rows(named=True):
                ax.plot([row["lo"], row["hi"]], [place] * 2, color=colours[group], linewidth=1.4)
                ax.plot(row["y"], place, marker, color=colours[group], markersize=4)
                psnr = row["x"]
        ax.text(1.02, place, f"{psnr:.1f}", transform=ax.get_yaxis_transform(), fontsize=6.5, va="center")
    ax.text(1.02, -0.75, "PSNR", transform=ax.get_yaxis_transform(), fontsize=6.5, va="center")
    log2_axis(ax.xaxis, [least(effects["y"]) / 1.4, greatest(effects["y"]) * 1.4], most=7)
    ax.set_ylim(len(REMEDIES) - 0.5, -0.5)
    ax.yaxis.set_major_locator(FixedLocator(list(range(len(REMEDIES)))))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_yticklabels(REMEDIES.values(), fontsize=6.5)
    ax.set_xlabel("Measured growth from L0 to T (median)")

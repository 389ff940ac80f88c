"""Sequence mixers side by side: what each keeps beyond its training length."""

import polars as pl
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from lgmamba.figures.levels import by_level
from lgmamba.figures.style import FAR, PANEL_TITLES, WIDTH, Style

LENGTH_RATIOS = (1 / 16, 1 / 4, 1 / 2, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 25.0, 32.0, 64.0)
"""Multiples of L0 shown, as far as they were read."""
WHERE_ROOM = (16.0, 32.0)
"""Those left out where panels stand side by side: their numbers would touch."""
STRONG = 0.6
"""Share of the colour scale from which on numbers are white."""


def fig_mixers(frame: pl.DataFrame, style: Style) -> Figure:
    """One panel for each kind of run, one row for each run, one column for each T / L0; colour and number: PSNR(T) - PSNR(L0). Where
    classes are named, the same of accuracy follows below.

    Args:
        frame: `analysis.mixers.mixer_frame`.
    """
    left_out = WHERE_ROOM if frame["kind"].n_unique() > 1 else ()
    ratios = [ratio for ratio in LENGTH_RATIOS if ratio not in left_out]
    levels = by_level(frame.filter(pl.col("factor").is_in(ratios)), style)
    most = [max(group["run"].n_unique() for _, group in here.group_by("kind")) for here, _ in levels]
    heights = [0.9 + 0.21 * rows for rows in most]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(levels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (shown, looks) in zip(parts, levels, strict=True):
        _draw(part, shown, looks)
    return figure


def _draw(part: SubFigure, shown: pl.DataFrame, style: Style) -> None:
    factors = sorted(shown["factor"].unique())
    panels = [kind for kind in PANEL_TITLES if kind in set(shown["kind"])]
    rows = {kind: shown.filter(kind=kind)["run"].unique(maintain_order=True).to_list() for kind in panels}
    axes = part.subplots(1, len(panels), squeeze=False)[0]
    change = [*shown["change"].drop_nulls().to_list(), -1e-3, 1e-3]
    most = max(map(abs, change))
    norm = Normalize(-most, most)  # as much colour for what is gained as for what is lost
    for ax, kind in zip(axes, panels, strict=True):
        table = {(row["run"], row["factor"]): row["change"] for row in shown.iter_rows(named=True)}
        values = [[table.get((run, factor)) for factor in factors] for run in rows[kind]]
        numbers = [[float("nan") if value is None else value for value in row] for row in values]
        image = ax.imshow(numbers, cmap="RdBu", norm=norm, aspect="auto")
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                if value is not None:
                    colour = "white" if abs(norm(value) - 0.5) > STRONG / 2 else "black"
                    ax.text(x, y, _signed(value), ha="center", va="center", fontsize=5.5, color=colour)
        if 1.0 in factors:
            ax.axvline(factors.index(1.0) + 0.5, color=FAR, linewidth=1)
        ax.set_yticks(range(len(values)), [style[run].label for run in rows[kind]])
        ax.set_xticks(range(len(factors)), [f"1/{1 / f:g}" if f < 1 else f"{f:g}" for f in factors])
        ax.tick_params(length=0)
        ax.set_title(PANEL_TITLES[kind], loc="left")
        ax.set_xlabel("T / L0 (training lengths)")
    bar = part.colorbar(image, ax=axes, label=style.metric.change())
    bar.ax.set_ylim(min(change), max(change))


def _signed(value: float) -> str:
    """With one digit; what is zero then has no sign."""
    text = f"{value:+.1f}"
    return text.replace("-", "\u2212") if float(text) else "0.0"

"""Sequence mixers side by side: what each keeps beyond its training length."""

import polars as pl
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from lgmamba.figures.levels import by_level
from lgmamba.figures.style import FAR, PANEL_TITLES, RC, WIDTH, Style, in_two_lines, inches

LENGTH_RATIOS = (1 / 16, 1 / 4, 1 / 2, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 25.0, 32.0, 64.0)
"""Multiples of L0 shown, as far as they were read."""
WHERE_ROOM = (16.0, 32.0)
"""Those left out where panels stand side by side: their numbers would touch."""
CELL, BAR = 0.27, 1.0
"""Inches: the narrowest cell whose number stands apart from the next; colour bar and gaps. Panels of narrower cells stand below one another."""
FEW_ROWS = 6
"""Beside fewer rows the words of the colour bar stand in two lines; one would be longer than the bar."""
STRONG = 0.6
"""Share of the colour scale from which on numbers are white."""


def fig_mixers(frame: pl.DataFrame, style: Style) -> Figure:
    """One panel for each kind of run, one row for each run, one column for each T / L0; colour and number: PSNR(T) - PSNR(L0). Where
    classes are named, the same of accuracy follows below.

    Args:
        frame: `analysis.mixers.mixer_frame`.
    """
    fewer = frame.filter(pl.col("factor").is_in([ratio for ratio in LENGTH_RATIOS if ratio not in WHERE_ROOM]))
    beside = frame["kind"].n_unique() > 1 and _fits(fewer, style)
    levels = by_level(fewer if beside else frame.filter(pl.col("factor").is_in(LENGTH_RATIOS)), style)
    rows = [[group["run"].n_unique() for _, group in here.group_by("kind")] for here, _ in levels]
    heights = [0.9 + 0.21 * max(here) if beside else 0.7 * len(here) + 0.2 + 0.21 * sum(here) for here in rows]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(levels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (shown, looks) in zip(parts, levels, strict=True):
        _draw(part, shown, looks, beside)
    return figure


def _fits(shown: pl.DataFrame, style: Style) -> bool:
    """Whether numbers and names of rows have room where all kinds stand side by side."""
    names = [
        max(inches(style[run].label, RC["ytick.labelsize"]) for run in group["run"].unique())
        for _, group in shown.group_by("kind")
    ]
    cells = len(names) * shown["factor"].n_unique()
    return (WIDTH - BAR - sum(names)) / cells >= CELL


def _draw(part: SubFigure, shown: pl.DataFrame, style: Style, beside: bool) -> None:
    factors = sorted(shown["factor"].unique())
    panels = [kind for kind in PANEL_TITLES if kind in set(shown["kind"])]
    rows = {kind: shown.filter(kind=kind)["run"].unique(maintain_order=True).to_list() for kind in panels}
    if beside:
        axes = part.subplots(1, len(panels), squeeze=False)[0]
    else:
        heights = [len(rows[kind]) for kind in panels]
        axes = part.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
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
    few = max(map(len, rows.values())) < FEW_ROWS and (beside or len(panels) == 1)
    words = style.metric.change()
    bar = part.colorbar(image, ax=list(axes), label=in_two_lines(words) if few else words)
    bar.ax.set_ylim(min(change), max(change))


def _signed(value: float) -> str:
    """With one digit; what is zero then has no sign."""
    text = f"{value:+.1f}"
    return text.replace("-", "\u2212") if float(text) else "0.0"

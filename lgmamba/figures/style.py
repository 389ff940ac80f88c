"""The look of every figure: one palette keyed by run, one set of sizes, one way to save.

A run has the same colour, line and marker in every figure: seaborn's colour-blind safe palette, given out in the order of
params.yaml; once its colours are used up they come again with another line and marker.
"""

import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import offset_copy
from PIL import Image

from lgmamba.config.task import TaskBase
from lgmamba.files import atomic_path
from lgmamba.metrics import PIXELS

WIDTH = 7.2  # inches: two columns of a journal page
FAR, NEVER_READ = "0.45", "0.93"  # greys: reference lines, pixels that were not read
COLOURS = (
    0,
    1,
    2,
    3,
    4,
    9,
    5,
)  # of seaborn's "colorblind": without pink and yellow, too pale on white, and grey, for reference lines
BOUNDARY = "#d1001f"  # between what a run was trained for and what lies beyond, on pictures
Line = Literal["-"] | tuple[int, tuple[float, ...]]
"""A full line; or offset and lengths of dashes and gaps, in line widths."""
LINES: tuple[Line, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (7, 1.5, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")
SEQUENTIAL = sns.color_palette("viridis", as_cmap=True)
BASELINES: dict[str, tuple[str, Line]] = {
    "mean_image": ("Mean image", (0, (1, 1.5))),
    "paste": ("Ideal memory: patches pasted into the mean image", (0, (5, 1.5))),
    "oracle_memory": ("Ideal memory: pixels read, the mean image elsewhere", (0, (5, 1.5))),
    "nearest": ("Nearest pixel read", (0, (3, 1, 1, 1))),
    "paper": ("Paper alone", (0, (1, 4))),
    "zero": ("Nothing read: the answer 0", (0, (1, 1.5))),
    "least_squares": ("Least squares", (0, (5, 1.5))),
    "chance": ("A guess", (0, (1, 1.5))),
    "unigram": ("Frequencies of bytes", (0, (1, 1.5))),
    "exact": ("All that was read is known", (0, (5, 1.5))),
}
PANEL_TITLES = {
    "specialist": "Specialists (one length)",
    "generalist": "Generalists (many lengths)",
    "several read-outs": "Read out at several steps",
    "length-adaptive": "Length-adaptive (told a length)",
}

RC: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.4,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "pdf.fonttype": 42,  # text stays text
    "legend.frameon": False,
    "figure.dpi": 100,
}


@dataclass(frozen=True)
class Look:
    """How one run is drawn."""

    colour: tuple[float, float, float]
    line: Line
    marker: str
    label: str

    @property
    def stroke(self) -> dict[str, Any]:
        """Colour and line, as keywords of `Axes.plot`."""
        return {"color": self.colour, "linestyle": self.line}


class Style:
    """Looks of the runs of one study.

    Args:
        runs: names of all runs, in the order of params.yaml.
        task: of the study, for what axes are called; None: that of pictures.
    """

    def __init__(self, runs: list[str], task: TaskBase | None = None):
        self.metric = PIXELS if task is None else task.METRICS[0]
        self.steps = "patches" if task is None else task.STEPS
        colours = palette()
        self.looks = {}
        for position, run in enumerate(runs):
            lap, colour = divmod(position, len(colours))
            self.looks[run] = Look(
                colours[colour], LINES[lap % len(LINES)], MARKERS[lap % len(MARKERS)], run.replace("_", " ")
            )

    def __getitem__(self, run: str) -> Look:
        """Look of a run.

        Raises:
            KeyError: the study has no such run; lists those it has.
        """
        if run not in self.looks:
            raise KeyError(f"no colour for run {run!r}; the palette has {', '.join(self.looks)}")
        return self.looks[run]


DETAIL = 6.5
"""Size of the small letters below a panel's title."""
BESIDE_BAR = 0.68
"""Of a figure's width, what its panels have beside a colour bar and labels that they share."""


def palette() -> list[tuple[float, float, float]]:
    """The colours that every reader tells apart, in their order."""
    safe = sns.color_palette("colorblind")
    return [safe[k] for k in COLOURS]


def use_style() -> None:
    """Set the look of everything drawn afterwards."""
    sns.set_theme(context="paper", style="ticks", rc=RC)


def legend_below(ax: Axes, *entries: Any, **looks: Any) -> None:
    """A legend under the label of the x axis, as far below it whatever the height of the axes; arguments as of `Axes.legend`."""
    under = offset_copy(ax.transAxes, ax.get_figure(root=True), y=-30, units="points")
    looks = {"columnspacing": 1, "handlelength": 1.6} | looks
    ax.legend(*entries, loc="upper center", bbox_to_anchor=(0.5, 0.0), bbox_transform=under, borderaxespad=0, **looks)


def grid_of_axes(n: int, columns: int, height: float, width: float = WIDTH, **shared: Any) -> tuple[Figure, list[Axes]]:
    """n axes in rows of at most `columns`, as even as can be, row height in inches; places that stay empty are removed."""
    figure = Figure(figsize=(width, math.ceil(n / columns) * height), layout="constrained")
    return figure, grid_in(figure, n, columns, **shared)


def grid_in(figure: Figure | SubFigure, n: int, columns: int, **shared: Any) -> list[Axes]:
    """The same in a figure, or a part of one, that is there."""
    rows = math.ceil(n / columns)
    columns = math.ceil(n / rows)
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    flat = list(axes.flat)
    for unused in flat[n:]:
        unused.remove()
    for above in flat[max(n - columns, 0) : n]:  # lowest axes of their columns
        above.tick_params(labelbottom=True)
    return flat[:n]


def rows_of_axes(rows: int, columns: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """Rows of panels below one another, each with its own axis of levels and all with one of steps; height in inches, of all."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey="row")
    return figure, [list(row) for row in axes]


def panel_title(ax: Axes, title: str, detail: str, share: float = 0.8) -> None:
    """Title in two lines or more: what is drawn, and in small grey letters a detail, both broken where their panel
    ends, a detail after a comma.

    Args:
        share: of the figure's width, what panels have; the rest is for labels, gaps and a colour bar.
    """
    figure, place = ax.get_figure(root=True), ax.get_subplotspec()
    assert figure is not None and place is not None  # an axis of `grid_of_axes`
    room = share * figure.get_figwidth() / place.get_gridspec().ncols
    detail = broken(detail, room, DETAIL, ", ")
    ax.set_title(broken(title, room, RC["axes.titlesize"]), loc="left", pad=13 + 9 * detail.count("\n"))
    # in points: of a tall panel a share of its height would reach into the title
    above: dict[str, Any] = {"xycoords": "axes fraction", "xytext": (0, 2.5), "textcoords": "offset points"}
    ax.annotate(detail, (0, 1), **above, ha="left", va="bottom", fontsize=DETAIL, color="0.3")


def broken(text: str, room: float, size: float, after: str = " ") -> str:
    """Text in lines that are no wider than so many inches, broken after what is named; parts that are wider stay whole."""
    lines: list[str] = []
    for line in text.splitlines():
        lines.append("")
        for part in re.split(f"(?<={after})", line):
            if lines[-1] and inches((lines[-1] + part).rstrip(), size) > room:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def in_two_lines(change: str) -> str:
    """What an axis of differences is called (`Metric.change`), broken before its minus."""
    return change.replace(" \u2212 ", "\n\u2212 ")


def inches(text: str, size: float) -> float:
    """Width of one line in the letters of figures."""
    font = FontProperties(family=RC["font.sans-serif"], size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72


HANDLE = 0.28
"""Of a legend's entry without its words, in inches: line, gaps."""


def legend_columns(labels: list[str], room: float) -> int:
    """Columns of a legend below its panel, at most four: as many as fit into so many inches, so that no legend runs into the next."""
    widths = [inches(label, RC["legend.fontsize"]) for label in labels]
    for columns in (4, 3, 2):
        rows = math.ceil(len(widths) / columns)  # filled from top to bottom
        filled = [widths[first : first + rows] for first in range(0, len(widths), rows)]
        if len(filled) == columns and rows > 1 and sum(HANDLE + max(column) for column in filled) <= room:
            return columns
    return 2 if len(widths) == 2 and sum(HANDLE + width for width in widths) <= room else 1


def colour_bar(
    figure: Figure | SubFigure, axes: list[Axes], mappable: ScalarMappable, label: str, **more: Any
) -> Colorbar:
    """One colour bar for all panels, as wide for many rows of panels as for one."""
    rows = len({round(ax.get_position().y0, 3) for ax in axes})
    bar = figure.colorbar(
        mappable, ax=axes, pad=0.01, aspect=18 * min(rows, 3), shrink=1 if rows <= 3 else 3 / rows, **more
    )
    bar.set_label(label)
    return bar


def log2_axis(axis: Axis, values: list[float], most: int = 7) -> None:
    """Ticks at powers of two within the values, at most `most` of them, written as plain numbers."""
    low, high = math.ceil(math.log2(min(values))), math.floor(math.log2(max(values)))
    step = max(1, math.ceil((high - low + 1) / most))
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})  # type: ignore[attr-defined]  # has one, matplotlib says
    axis.set_major_locator(FixedLocator([2.0**k for k in range(low, high + 1, step)]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def mark_L0(axes: Axes, L0: float) -> None:
    """A dashed line at a training length."""
    axes.axvline(L0, color=FAR, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)


def shared_labels(figure: Figure | SubFigure, x: str, y: str) -> None:
    """One pair of axis labels for all panels."""
    figure.supxlabel(x, fontsize=RC["axes.labelsize"])
    figure.supylabel(y, fontsize=RC["axes.labelsize"])


def save_figure(figure: Figure, frame: pl.DataFrame, name: str, out: Path, pictures: bool = False) -> None:
    """Write <name>.png (300 dpi), <name>.pdf and <name>.csv, the frame that was drawn.

    Args:
        out: folder, made if it is missing.
        pictures: whether the figure shows images; others are drawn in few colours, and 256 of them take a third of the space.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=300, bbox_inches="tight")
    image = Image.open(drawn).convert("RGB")
    if not pictures:
        image = image.quantize(256, dither=Image.Dither.NONE)
    with atomic_path(out / f"{name}.png") as part:
        image.save(part, format="png", optimize=True, dpi=(300, 300))
    with atomic_path(out / f"{name}.pdf") as part:
        figure.savefig(part, format="pdf", bbox_inches="tight", metadata={"CreationDate": None})
    with atomic_path(out / f"{name}.csv") as part:
        frame.write_csv(part)

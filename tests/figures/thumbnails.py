"""Figures as thumbnails, or none at all, for tests of which figures there are and of what they are made."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lgmamba.analysis import figures_of
from lgmamba.analysis.collect import load_study
from lgmamba.figures import draw
from lgmamba.records import Key, finish

NOTHING = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8ffff3f0005fe02fea7d6059b0000000049454e44ae426082"
)
"""A picture of one pixel."""


@contextmanager
def thumbnails(laid_out: bool = True) -> Iterator[None]:
    """Every figure is drawn once, at 20 dpi, and laid out if so wished; its PDF is empty.

    `savefig` draws a figure twice, to lay it out and to save it. Doing both for each of up to twenty figures, at 300 dpi and with embedded
    fonts, takes far longer. It is done for every figure
    by the tests of the workflow, and for one by `test_figures.py`.
    """

    def save_thumbnail(figure: Figure, to: Any, *, format: str, **_: Any) -> None:
        if format != "png":
            Path(to).write_bytes(b"%PDF")
            return
        if not laid_out:
            figure.set_layout_engine("none")
        figure.dpi = 20
        FigureCanvasAgg(figure).print_png(to)

    with patch.object(Figure, "savefig", save_thumbnail):
        yield


def pictures_of_nothing(study: Path, out: Path, but: Collection[str] = ()) -> None:
    """For tests of reports: one for each figure of a study, with its record.

    Args:
        but: of these there is one already.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in set(figures_of(load_study(study))) - set(but):
        (out / f"{name}.png").write_bytes(NOTHING)
        finish(Key("figure", {}, "", "", {}), out, [f"{name}.png"], name)


def draw_some(names: Collection[str], study: Path, frames: Path, out: Path) -> None:
    """Thumbnails of the figures that are particular to a study, and pictures of nothing in place of its others."""
    with thumbnails():
        for name in names:
            draw(name, study, frames, out)
    pictures_of_nothing(study, out, names)

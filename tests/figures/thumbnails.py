"""Figures as thumbnails, for tests of which figures there are and of what they are made."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


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

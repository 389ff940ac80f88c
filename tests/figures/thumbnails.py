"""Figures as thumbnails, for tests of which figures there are and of what they are made."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from matplotlib.figure import Figure

save = Figure.savefig


def save_thumbnail(figure: Figure, to: Any, *, format: str, **_: Any) -> None:
    if format == "png":
        save(figure, to, format="png", dpi=20)
    else:
        Path(to).write_bytes(b"%PDF")


@contextmanager
def thumbnails() -> Iterator[None]:
    """Every figure is laid out and drawn, once, at 20 dpi; its PDF is empty.

    Drawing each of up to twenty figures four times, at 300 dpi and with embedded fonts, takes far longer. It is done for every figure
    by the tests of the workflow, and for one by `test_figures.py`.
    """
    with patch.object(Figure, "savefig", save_thumbnail):
        yield

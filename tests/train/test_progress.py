"""What a person at a terminal sees of a training."""

import io
import sys

from lgmamba.metrics import PIXELS
from lgmamba.train.progress import training_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_no_number_before_one_was_measured(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with training_progress("plain seed 0", 20, 40, PIXELS) as show:
        begun = terminal.getvalue()
        show("plain seed 0", 30, 0.5, 1234.0, {})
    assert "20/40" in begun and "nan" not in begun
    assert "loss 0.50000 1,234 images/s" in terminal.getvalue()

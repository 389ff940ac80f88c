"""What a person sees of a training: a bar on a terminal, a line at each validation anywhere else."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from lgmamba.metrics import Metric

log = logging.getLogger(__name__)


class Show(Protocol):
    """Told about every logged step."""

    def __call__(self, label: str, step: int, loss: float, images_per_s: float, levels: dict[int, float]) -> None: ...


@contextmanager
def training_progress(label: str, start: int, total: int, metric: Metric) -> Iterator[Show]:
    """Show loss, images/s and time left.

    Args:
        label: what is trained, for a terminal; a line says whose it is.
        start, total: first step of this attempt, and steps in all.
        metric: what is validated.
    """
    if not sys.stderr.isatty():
        yield lambda label, step, loss, rate, levels: _line(label, total, step, loss, rate, levels, metric)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.fields[seen]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), text, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=start, seen="")  # nothing was measured yet
        yield lambda label, step, loss, rate, levels: bar.update(
            task, completed=step, seen=f"loss {loss:.5f} {rate:,.0f} images/s"
        )


def _line(
    label: str, total: int, step: int, loss: float, images_per_s: float, levels: dict[int, float], metric: Metric
) -> None:
    if levels:
        log.info(
            "%s: step %d of %d, loss %.5f, %.0f images/s, validation %s by length %s",
            label,
            step,
            total,
            loss,
            images_per_s,
            metric.title,
            ", ".join(f"{T}: {level:.{metric.digits}f}" for T, level in levels.items()),
        )

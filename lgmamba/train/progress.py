"""What a person sees of a training: a bar on a terminal, a line at each validation anywhere else."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger(__name__)


class Show(Protocol):
    """Told about every logged step."""

    def __call__(self, label: str, step: int, loss: float, images_per_s: float, val_psnr: dict[int, float]) -> None: ...


@contextmanager
def training_progress(label: str, start: int, total: int) -> Iterator[Show]:
    """Show loss, images/s and time left.

    Args:
        label: what is trained, for a terminal; a line says whose it is.
        start, total: first step of this attempt, and steps in all.
    """
    if not sys.stderr.isatty():
        yield lambda label, step, loss, images_per_s, val_psnr: _line(label, total, step, loss, images_per_s, val_psnr)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    texts = (TextColumn("loss {task.fields[loss]:.5f}"), TextColumn("{task.fields[rate]:,.0f} images/s"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *texts, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=start, loss=float("nan"), rate=0.0)
        yield lambda label, step, loss, images_per_s, val_psnr: bar.update(
            task, completed=step, loss=loss, rate=images_per_s
        )


def _line(label: str, total: int, step: int, loss: float, images_per_s: float, val_psnr: dict[int, float]) -> None:
    if val_psnr:
        lengths = ", ".join(f"{T}: {psnr:.2f}" for T, psnr in val_psnr.items())
        log.info(
            "%s: step %d of %d, loss %.5f, %.0f images/s, validation PSNR (dB) by length %s",
            label,
            step,
            total,
            loss,
            images_per_s,
            lengths,
        )

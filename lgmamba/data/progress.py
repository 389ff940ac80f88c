"""A progress bar on a terminal, silence anywhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(label: str, total: int | None, unit: str, show: bool | None) -> Iterator[Callable[[int], None]]:
    """Show how far a job is; yields `advance(n)`.

    Args:
        label: what is done.
        total: how much there is to do, in `unit`; None if unknown.
        unit: "images" or "bytes".
        show: None shows the bar if standard error is a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda n: bar.advance(task, n)

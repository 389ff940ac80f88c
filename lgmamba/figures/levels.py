"""The levels that a frame has, each as a frame of its own: that of the task and, where classes are named, accuracy.

So a figure is drawn by one function, once for each level, below one another on the same axis of steps.
"""

import copy

import polars as pl

from lgmamba.analysis.frames import of_accuracy
from lgmamba.figures.style import Style
from lgmamba.metrics import ACCURACY


def by_level(frame: pl.DataFrame, style: Style) -> list[tuple[pl.DataFrame, Style]]:
    """The frame as it is, and where it holds accuracies the same columns with those in them, each with a style of its metric.

    Args:
        frame: columns <name>, and for accuracy those of `lgmamba.analysis.frames.of_accuracy`; rows without any accuracy, of runs
            and baselines that name no class, are left out of the second frame, and so are levels without one.
    """
    partners = {name: of_accuracy(name) for name in frame.columns if of_accuracy(name) in frame.columns}
    if not partners:
        return [(frame, style)]
    own = frame.drop(list(partners.values()))
    named = frame.filter(~pl.all_horizontal(pl.col(list(partners.values())).is_null()))
    alone = [name for name in own.columns if own.schema[name] == pl.Float64 and name not in {*partners, "factor"}]
    named = named.drop([*partners, *alone]).rename({other: name for name, other in partners.items()})
    looks = copy.copy(style)
    looks.metric = ACCURACY
    return [(own, style), (named, looks)]

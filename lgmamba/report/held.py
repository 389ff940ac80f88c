"""How far each training by itself is right: trainings either find a rule or do not, which a mean over them hides."""

from typing import Any

import polars as pl

from lgmamba.config.study import Params
from lgmamba.metrics import ACCURACY, SCALED_ACCURACY

HELD = 90.0
"""Share of right answers, %, with which a training still does what it was trained for."""


def held_context(params: Params, curves: pl.DataFrame) -> list[dict[str, Any]]:
    """The longest sequences at which a training holds the level HELD, of a task whose level is a share of right answers.

    Args:
        curves: curves.parquet, levels by training and step.
    Returns:
        of each run: run, L0, to: for each of its trainings the longest sequence read in the first order with at least that level, None
        where there is none, ascending. Empty for other tasks.
    """
    if params.task.METRICS[0] not in (ACCURACY, SCALED_ACCURACY):
        return []
    read = curves.filter(mode="prefix", order=params.evaluation.orders[0], method="model")
    longest = pl.when(pl.col("psnr") >= HELD).then("step").max().alias("to")
    by_training = read.group_by("run", "seed").agg(longest).sort(pl.col("to").fill_null(0), "seed")
    found = dict(by_training.group_by("run", maintain_order=True).agg("to").rows())
    return [
        {"run": name, "L0": run.L0, "to": found[name]} for name, run in params.runs_by_name().items() if name in found
    ]

"""Theory and model: error of one bare S6 layer against length, as measured and in closed form."""

import polars as pl

from lgmamba.config.lengths import Fixed
from lgmamba.config.study import Params
from lgmamba.tasks.regression.config import RegressionConfig
from lgmamba.tasks.regression.theory import Theory


def theory_frame(params: Params, curves: pl.DataFrame) -> pl.DataFrame:
    """Rows of every run with one bare S6 layer that was trained at one length.

    Columns: run, L0, step, line, error, lo, hi. line: `model` (mean over seeds, lowest and highest), `loss` (the theory of it),
    `slowed` and `windows` (what the theory says of slower steps, and of windows of L0 steps).
    """
    headline = curves.filter(mode="prefix", order=params.evaluation.orders[0], method="model")
    rows = []
    for name, run in params.runs_by_name().items():
        task = run.task
        if not isinstance(task, RegressionConfig) or task.body != "s6" or not isinstance(task.lengths, Fixed):
            continue
        theory = Theory(task.dim, run.L0)
        found = (
            headline.filter(run=name)
            .group_by("step")
            .agg(error=pl.col("mse").mean(), lo=pl.col("mse").min(), hi=pl.col("mse").max())
        )
        for step, error, lo, hi in found.sort("step").rows():
            rows.append({"run": name, "L0": run.L0, "step": step, "line": "model", "error": error, "lo": lo, "hi": hi})
            for line in ("loss", "slowed", "windows"):
                said = getattr(theory, line)(step)
                rows.append(
                    {"run": name, "L0": run.L0, "step": step, "line": line, "error": said, "lo": None, "hi": None}
                )
    schema = {"run": pl.String, "L0": pl.Int64, "step": pl.Int64, "line": pl.String}
    return pl.DataFrame(rows, schema | dict.fromkeys(("error", "lo", "hi"), pl.Float64))

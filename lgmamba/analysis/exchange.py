"""Runs that differ in the weight of classification alone: what the class costs the picture, and the other way, at L0.

Conflict gaps and exchange area are those of `lgmamba.analysis.frontier`. A gap is one number for each training. The area of one training
is undefined where one of its ends is not ahead in what it was trained for, and trainings must not be chosen by that: it is that of the mean
frontier, with the jackknife's interval over trainings.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from lgmamba.analysis.families import exchanges
from lgmamba.analysis.frontier import conflict_gaps, exchange_area
from lgmamba.analysis.statistics import effect_of, jackknife
from lgmamba.config.study import Params

NUMBERS = ("gap_r", "gap_c", "area")
SCHEMA: dict[str, Any] = {"run": pl.String, "runs": pl.List(pl.String), "weights": pl.List(pl.Float64), "L0": pl.Int64}
SCHEMA |= {f"{name}{end}": pl.Float64 for name in NUMBERS for end in ("", "_lo", "_hi")} | {"n_seeds": pl.Int64}


def exchange_frame(params: Params, curves: pl.DataFrame) -> pl.DataFrame:
    """One row for each group: run (that of w = 0), runs, weights, L0 -> gap_r, gap_c, area, each with Student's interval over trainings.

    A number is null where some training has none, or for the area where the mean of all trainings, or of all but one, has none; an
    interval of one training is null.
    """
    order, null = params.evaluation.orders[0], params.task.NULL
    here = curves.filter(pl.col("mode") == "prefix", pl.col("order") == order)
    rows = []
    for group in exchanges(params):
        runs, L0 = list(group.values()), params.runs_by_name()[group[0.0]].L0
        at_L0 = here.filter(pl.col("step") == L0)
        found = [_of_seed(at_L0, runs, seed, null) for seed in params.seeds_of(runs[0])]
        row = {"run": runs[0], "runs": runs, "weights": list(group), "L0": L0, "n_seeds": len(found)}
        points = [np.stack([seed[name] for seed in found]) for name in ("mse", "accuracy")]
        values = {name: [seed[name] for seed in found] for name in ("gap_r", "gap_c")}
        values["area"] = jackknife(area_of_means, *points).tolist()
        rows.append(row | _over_seeds(values, params.claims.level))
    return pl.DataFrame(rows, schema=SCHEMA)


def area_of_means(mse: np.ndarray, accuracy: np.ndarray) -> float:
    """Exchange area of the mean over trainings of (S, W) points; nan where an end of it is not ahead in what it was trained for."""
    return exchange_area(mse.mean(0), accuracy.mean(0))


def _of_seed(at_L0: pl.DataFrame, runs: Sequence[str], seed: int, null: str) -> dict[str, Any]:
    mine = at_L0.filter(pl.col("seed") == seed)
    of_run = {row["run"]: row for row in mine.filter(method="model").iter_rows(named=True)}
    nothing = mine.filter(pl.col("method") == null, pl.col("run") == runs[0]).row(0, named=True)
    mse, accuracy = (np.array([of_run[run][name] for run in runs]) for name in ("mse", "accuracy"))
    gap_r, gap_c = conflict_gaps(mse, accuracy, nothing["mse"], nothing["accuracy"])
    return {"gap_r": gap_r, "gap_c": gap_c, "mse": mse, "accuracy": accuracy}


def _over_seeds(values_of: Mapping[str, Sequence[float]], level: float) -> dict[str, float | None]:
    row: dict[str, float | None] = {}
    for name in NUMBERS:
        effect = effect_of(values_of[name], level)
        values = {"": effect.effect, "_lo": effect.lo, "_hi": effect.hi}
        row |= {f"{name}{end}": None if math.isnan(value) else value for end, value in values.items()}
    return row

"""Which learning rate is best for which runs, in a study that trains each at several."""

from typing import Any

import polars as pl

from lgmamba.analysis.families import SPECIALIST, kind_of, rate_sweep
from lgmamba.config.claims import TO_L0, steps_at
from lgmamba.config.study import Params


def rate_context(params: Params, curves: pl.DataFrame) -> list[dict[str, Any]]:
    """Levels at the lengths of training, of each rate: mean over trainings, of a specialist at L0, of others over 1, 2, 4, ... and L0.

    Args:
        curves: curves.parquet, levels by training and step.
    Returns:
        runs (what they are called in common), levels ({rate: level, None where it was not tried}), best (rate), at_end (whether that is
        the lowest or highest rate tried); [] of a study that is no such sweep.
    """
    sweep, runs = rate_sweep(params), params.runs_by_name()
    read = curves.filter(mode="prefix", order=params.evaluation.orders[0], method="model")
    rates, rows = sorted({rate for by_rate in sweep.values() for rate in by_rate}), []
    for called, by_rate in sweep.items():
        levels: dict[float, float] = {}
        for rate, name in by_rate.items():
            at = ["L0"] if kind_of(runs[name]) == SPECIALIST else [TO_L0]
            here = read.filter(pl.col("step").is_in(steps_at(at, runs[name].L0)), run=name)
            levels[rate] = here.group_by("seed").agg(pl.col("psnr").mean())["psnr"].mean()  # type: ignore[assignment]
        best = max(levels, key=lambda rate: levels[rate])
        found = {"runs": called, "levels": {rate: levels.get(rate) for rate in rates}, "best": best}
        rows.append(found | {"at_end": best in (min(levels), max(levels))})
    return rows

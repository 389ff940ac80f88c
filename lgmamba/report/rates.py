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
        the lowest or highest rate tried), named ({rate: run});
        [] of a study that is no such sweep.
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
        rows.append(found | {"at_end": best in (min(levels), max(levels)), "named": by_rate})
    return rows


def who_leads(rows: list[dict[str, Any]], params: Params) -> list[tuple[float, list[tuple[str, float]]]]:
    """At each rate what runs are called and their level, best first; of those that are all measured over 1, 2, 4, ... and L0.

    Rates that not all of them were tried at are left out; [] where fewer than two are measured alike.

    Args:
        rows: `rate_context`.
        params: its study.
    """
    runs = params.runs_by_name()
    alike = [row for row in rows if all(kind_of(runs[name]) != SPECIALIST for name in row["named"].values())]
    if len(alike) < 2:
        return []
    rates = [rate for rate in alike[0]["levels"] if all(row["levels"][rate] is not None for row in alike)]
    best_first = {rate: sorted(alike, key=lambda row: -row["levels"][rate]) for rate in rates}
    return [(rate, [(row["runs"], row["levels"][rate]) for row in found]) for rate, found in best_first.items()]

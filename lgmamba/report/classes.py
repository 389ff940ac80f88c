"""What the report says about classes beside pictures, as plain values, of studies whose runs name them."""

from pathlib import Path
from typing import Any

import polars as pl

from lgmamba.analysis.families import trades_classes
from lgmamba.config.study import Params


def contrast_units(params: Params) -> dict[str, str] | None:
    """Primary contrast -> unit of its number; None where all are in the task's own."""
    if not any(contrast.in_points for contrast in params.claims.primary):
        return None
    return {contrast.name: "pp" if contrast.in_points else "dB" for contrast in params.claims.primary}


def class_context(params: Params, summary: pl.DataFrame, frames: Path) -> dict[str, Any]:
    """Levels of both, and what one costs the other.

    Returns:
        factors: multiples of L0 in the table; rows: {run, weight (w, None without a class head), levels: one {psnr, accuracy} for each
        factor, either None where it was not read}; chance: accuracy (%) of naming the commonest class; exchanges: rows of the frame.
    """
    headline = summary.filter(pl.col("mode") == "prefix", pl.col("order") == params.evaluation.orders[0])
    read = headline.filter(pl.col("method") == "model").select("run", "step", "psnr", "accuracy")
    known = {(run, step): {"psnr": psnr, "accuracy": accuracy} for run, step, psnr, accuracy in read.rows()}
    factors, nothing = [1 / 4, 1, *params.claims.far_length_ratios], {"psnr": None, "accuracy": None}
    rows = [
        {"run": name, "weight": run.train.class_weight}
        | {"levels": [known.get((name, max(1, round(f * run.L0))), nothing) for f in factors]}
        for name, run in params.runs_by_name().items()
    ]
    exchanges = pl.read_parquet(frames / "exchange.parquet").to_dicts() if trades_classes(params) else []
    chance = headline.filter(pl.col("method") == params.task.NULL)["accuracy"].drop_nulls().mean()
    return {"factors": factors, "rows": rows, "chance": chance, "exchanges": exchanges}


def accuracies(context: dict[str, Any]) -> dict[str, dict[str, float]]:
    """{run: {multiple of L0: accuracy (%)}}, of what `class_context` found."""
    found = {}
    for row in context["rows"]:
        levels = zip(context["factors"], row["levels"], strict=True)
        found[row["run"]] = {f"{f:g}xL0": level["accuracy"] for f, level in levels if level["accuracy"] is not None}
    return {run: values for run, values in found.items() if values}

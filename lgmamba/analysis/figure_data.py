"""The frames that the figures draw, row for row: every choice of rows, bins and steps for a figure is made here.

A figure's CSV is its frame. Frames are named figure_<name>.parquet.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from lgmamba.analysis.families import KINDS, describe_lengths, exemplary_runs, kind_of
from lgmamba.analysis.frames import beside, with_regret
from lgmamba.analysis.panel import Panel
from lgmamba.config.study import Params
from lgmamba.metrics import ACCURACY, LIMIT

GALLERY_FACTORS = (1 / 16, 1 / 4, 1 / 2, 1, 2, 4, math.inf)  # of the study's L0; inf = the longest
TASK_FACTORS = (1 / 32, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 2)
GALLERY_IMAGES = 2


def figure_frames(params: Params, frames: dict[str, pl.DataFrame], panel: Panel | None) -> dict[str, pl.DataFrame]:
    """{figure: frame}, from the frames of the study; without pictures or retention maps, those that need none."""
    some = {} if panel is None else {"task": task_rows(params, panel), "gallery": gallery_rows(params, panel)}
    if "retention" in frames:
        some["retention"] = retention_rows(params, frames["retention"])
    return some | {
        "curves": with_regret(curve_rows(params, frames["summary"]), frames["regret"]),
        "degradation": frames["degradation"],
        "training": training_rows(params, frames["history"]),
        "lengths": length_rows(params, frames["lengths"]),
    }


def curve_rows(params: Params, summary: pl.DataFrame, order: str | None = None) -> pl.DataFrame:
    """Headline PSNR against step: one row per run and step, and per baseline (run null, mean over runs) and step.

    Of one visiting order; None: the first of evaluation.orders.

    Columns: panel (kind of run), run, method, step, psnr, psnr_lo, psnr_hi (over seeds), L0, at_L0, n_seeds, n_images.
    Where a baseline is a perfect copy it is left out. Where classes are named also accuracy (%), accuracy_lo, accuracy_hi.
    """
    headline = summary.filter(pl.col("mode") == "prefix", pl.col("order") == (order or params.evaluation.orders[0]))
    levels = [level for level in ("psnr", "accuracy") if level in summary.columns]
    spreads = [f"{level}{end}" for level in levels for end in ("", "_lo", "_hi")]
    columns = ("run", "method", "step", *spreads, "n_seeds", "n_images")
    models = (
        headline.filter(pl.col("method") == "model")
        .select(columns)
        .join(_about_runs(params), on="run", maintain_order="left")
    )
    baselines = (
        headline.filter(pl.col("method") != "model", pl.col("psnr") < LIMIT - 1e-6)
        .group_by("method", "step")
        .agg(
            pl.col(levels).mean(),
            pl.col([f"{level}_lo" for level in levels]).min(),
            pl.col([f"{level}_hi" for level in levels]).max(),
            pl.col("n_seeds").max(),
            pl.col("n_images").max(),
        )
        .sort("method", "step")
    )
    rows = pl.concat([models, baselines], how="diagonal").with_columns(at_L0=pl.col("step") == pl.col("L0"))
    return rows.with_columns(pl.col("run").cast(pl.String))


def _about_runs(params: Params) -> pl.DataFrame:
    """run, panel (its kind), L0; in the order of kinds, then of params.yaml."""
    rows = [{"run": name, "panel": kind_of(run), "L0": run.L0} for name, run in params.runs_by_name().items()]
    return pl.DataFrame(sorted(rows, key=lambda row: KINDS.index(row["panel"])))


def retention_rows(params: Params, retention: pl.DataFrame) -> pl.DataFrame:
    """Headline retention maps with ages in octaves: run, panel, L0, step, age_low, age_high (both -1: never read), mse, count."""
    headline = retention.filter(
        pl.col("mode") == "prefix", pl.col("order") == params.evaluation.orders[0], pl.col("method") == "model"
    )
    return (
        _about_runs(params)
        .join(in_octaves(headline, "run", "step"), on="run", maintain_order="left")
        .sort("step", "age_low", maintain_order=True)
        .pipe(_in_order_of_runs, params)
    )


def in_octaves(retention: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """Retention maps with ages in octaves: keys, age_low, age_high -> mse (mean over cells), count, n_seeds."""
    low = pl.when(pl.col("age") < 0).then(-1).otherwise(2 ** (1 + pl.col("age")).log(2).floor() - 1).cast(pl.Int64)
    binned = (
        retention.with_columns(age_low=low)
        .group_by(*keys, "age_low")
        .agg(
            mse=(pl.col("mse") * pl.col("count")).sum() / pl.col("count").sum(),
            count=pl.col("count").sum(),
            n_seeds=pl.col("n_seeds").max(),
        )
    )
    high = pl.when(pl.col("age_low") < 0).then(-1).otherwise(2 * pl.col("age_low"))
    return binned.with_columns(age_high=high)


def training_rows(params: Params, history: pl.DataFrame) -> pl.DataFrame:
    """Validation PSNR during training: run, panel, L0, step (optimiser), length (patches), psnr over seeds with lowest and highest; the
    same of accuracy (%) where classes are named.
    """
    keys, columns = ("run", "step", "length"), ("psnr", "psnr_lo", "psnr_hi")
    over_seeds = beside(
        _validation(history, params.task.METRICS[0].level),
        _validation(history, ACCURACY.level) if params.names_classes else None,
        keys,
        columns,
    )
    return (
        _about_runs(params)
        .join(over_seeds, on="run", maintain_order="left")
        .sort("length", "step", maintain_order=True)
        .pipe(_in_order_of_runs, params)
    )


def _validation(history: pl.DataFrame, level: str) -> pl.DataFrame:
    valid = history.filter(pl.col("metric") == f"val_{level}", pl.col("value").is_finite())
    return valid.group_by("run", "step", "length").agg(
        psnr=pl.col("value").mean(),
        psnr_lo=pl.col("value").min(),
        psnr_hi=pl.col("value").max(),
        n_seeds=pl.col("seed").n_unique(),
    )


def length_rows(params: Params, lengths: pl.DataFrame) -> pl.DataFrame:
    """Distinct distributions of training lengths: distribution (in words), runs that use it (comma separated), length, probability."""
    named = {name: describe_lengths(run.task.lengths) for name, run in params.runs_by_name().items()}
    users: dict[str, list[str]] = {}
    for run, words in named.items():
        users.setdefault(words, []).append(run)
    first = pl.DataFrame(
        [{"run": runs[0], "distribution": words, "runs": ",".join(runs)} for words, runs in users.items()]
    )
    return first.join(lengths, on="run", maintain_order="left").select("distribution", "runs", "length", "probability")


def unlike(pictures: list[np.ndarray], wanted: int) -> list[int]:
    """The first picture, and again and again that which is least like any chosen before: `wanted` positions at most."""
    chosen = [0]
    while len(chosen) < min(wanted, len(pictures)):
        apart = [min(float(((p - pictures[c]) ** 2).mean()) for c in chosen) for p in pictures]
        chosen.append(int(np.argmax(apart)))
    return chosen


def gallery_rows(params: Params, panel: Panel) -> pl.DataFrame:
    """Tiles of the gallery: image (of the panel), artefact_row, row ("patches read" or a run), step, beyond (step > L0 of the run), psnr."""
    steps = _nearest(panel.steps, [f * params.L0 for f in GALLERY_FACTORS])
    runs = _about_runs(params).filter(pl.col("run").is_in(list(panel.strips)))
    rows = []
    for image in unlike([panel.target(i) for i in range(len(panel.images))], GALLERY_IMAGES):
        for step in steps:
            tile = {"image": image, "artefact_row": int(panel.images[image]), "step": step}
            rows.append(tile | {"row": "patches read", "run": None, "L0": None, "beyond": None, "psnr": None})
            for run, _, L0 in runs.rows():
                rows.append(
                    tile | {"row": run, "run": run, "L0": L0, "beyond": step > L0, "psnr": panel.psnr(run, step, image)}
                )
    return pl.DataFrame(rows, infer_schema_length=None)


def task_rows(params: Params, panel: Panel) -> pl.DataFrame:
    """What the task figure shows, one image: row ("this patch", "patches read", or a run), step, cell read at the step, psnr.

    Runs: `exemplary_runs`.
    """
    runs = [run for run in exemplary_runs(params) if run in panel.strips]
    L0 = params.runs_by_name()[runs[-1]].L0
    steps = _nearest([t for t in panel.steps if t <= panel.cells.shape[1]], [f * L0 for f in TASK_FACTORS])
    rows = []
    for step in steps:
        tile: dict[str, Any] = {
            "image": 0,
            "artefact_row": int(panel.images[0]),
            "step": step,
            "cell": int(panel.cells[0, step - 1]),
        }
        rows += [tile | {"row": words, "run": None, "psnr": None} for words in ("this patch", "patches read")]
        rows += [tile | {"row": run, "run": run, "psnr": panel.psnr(run, step, 0)} for run in runs]
    return pl.DataFrame(rows, infer_schema_length=None)


def _nearest(steps: list[int], wanted: Iterable[float]) -> list[int]:
    """For each wanted value the nearest step on a log scale, without repeats, ascending."""
    targets = [min(max(w, min(steps)), max(steps)) for w in wanted]

    def nearest(wanted: float) -> int:
        return min(steps, key=lambda t: abs(math.log(t / wanted)))

    return sorted({nearest(w) for w in targets})


def _in_order_of_runs(frame: pl.DataFrame, params: Params) -> pl.DataFrame:
    order = _about_runs(params).select("run").with_row_index("position")
    return frame.join(order, on="run", maintain_order="left").sort("position", maintain_order=True).drop("position")

"""The levels that the explorer draws against the step: of runs in every order and training, of baselines, and under remedies.

A curve is a dict: t (steps, ascending), mean, low and high over trainings, and seeds {seed: levels at t}, of those that are known.
"""

from pathlib import Path
from typing import Any

import polars as pl

from lgmamba.analysis.figure_data import curve_rows
from lgmamba.analysis.remedies import VANILLA, VANILLA_STREAM
from lgmamba.analysis.shown import drawn_runs
from lgmamba.config.remedies import ORACLES
from lgmamba.config.study import Params
from lgmamba.figures.curves import OUT_OF_VIEW
from lgmamba.figures.style import BASELINES, Line
from lgmamba.metrics import ACCURACY

Curve = dict[str, Any]
Curves = dict[str, dict[str, Curve]]
"""{order: {level: curve}}, a level being "psnr" (the study's own metric, whatever it is) or "accuracy"."""

BASELINE_WORDS = {
    "mean_image": "the mean of the training images, whatever was read",
    "paste": "patches that were read, as they are, in the mean image; a model may be above it, since it also knows what images look like",
    "oracle_memory": "pixels that were read, as they are, and the mean image elsewhere; a model may be above it, since it also knows "
    "what images look like",
    "nearest": "every pixel as the nearest one that was read",
    "paper": "all white or all black, whichever the training images are nearer to",
    "zero": "the answer 0, whatever was read",
    "least_squares": "the smallest weights that fit all pairs that were read",
    "chance": "what is right by chance",
    "unigram": "every byte as often as in the training texts",
    "exact": "the answer of somebody who forgets nothing",
}
"""What each baseline is, for somebody who has not read the report."""

HEADLINE = "prefix"  # as in figures: a run that is told the length is told how much was read
DIGITS = 3


def read_levels(params: Params, frames: Path) -> tuple[dict[str, Curves], list[dict[str, Any]]]:
    """Curves of every run that is drawn, and the baselines.

    Args:
        params: the study.
        frames: folder with summary.parquet and curves.parquet.
    Returns:
        {run: curves}, and for each baseline its name, short (the name's beginning), words (what it is), dash, leaves (whether it leaves the plot),
        levels.
    """
    summary, curves = (pl.read_parquet(frames / f"{name}.parquet") for name in ("summary", "curves"))
    trainings = curves.filter(mode=HEADLINE, method="model")
    runs: dict[str, Curves] = {run: {} for run in drawn_runs(params)}
    baselines: dict[str, Curves] = {}
    for order in params.evaluation.orders:
        rows = curve_rows(params, summary, order)
        for run, own in runs.items():
            own[order] = _levels(rows.filter(run=run), trainings.filter(run=run, order=order))
        for method in BASELINES:
            if not (here := rows.filter(method=method)).is_empty():
                baselines.setdefault(method, {})[order] = _levels(here, None)
    return runs, [
        {
            "name": words,
            "short": words.split(":")[0],
            "words": BASELINE_WORDS[method],
            "dash": dashes(line),
            "leaves": method in OUT_OF_VIEW,
            "levels": baselines[method],
        }
        for method, (words, line) in BASELINES.items()
        if method in baselines
    ]


def read_remedies(params: Params, frames: Path) -> dict[str, Any] | None:
    """Curves of runs under every remedy and control, beside the same runs as trained on the same samples.

    Returns:
        entries (name, words, control), images (samples), orders, and runs {run: {remedy: curves and what they are compared with}};
        None where a study tries none, or none on a run that is drawn.
    """
    tried = [
        run
        for run in drawn_runs(params)
        if params.remedy_evaluation is not None and run in params.remedy_evaluation.runs
    ]
    if not tried:
        return None
    names = ("remedies", "remedies_levels", "remedies_cost")
    levels, trainings, cost = (pl.read_parquet(frames / f"{name}.parquet") for name in names)
    levels = levels.filter(pl.col("remedy").is_in(ORACLES).not_(), pl.col("run").is_in(tried))
    spread = {"seeds_lo": "psnr_lo", "seeds_hi": "psnr_hi"}
    spread |= {f"{ACCURACY.level}_{old}": f"{ACCURACY.level}_{old[-2:]}" for old in spread}
    rows = levels.drop("psnr_lo", "psnr_hi", "accuracy_lo", "accuracy_hi", strict=False).rename(spread, strict=False)
    trainings = trainings.rename({"value": "psnr"})
    words = dict(cost.select("remedy", "words").unique("remedy").rows())
    shown = levels.unique("remedy", maintain_order=True).filter(
        pl.col("remedy").is_in([VANILLA, VANILLA_STREAM]).not_()
    )
    found: dict[str, dict[str, Any]] = {run: {} for run in tried}
    for (run, remedy), here in rows.group_by("run", "remedy", maintain_order=True):
        own = trainings.filter(run=run, method=remedy)
        found[str(run)][str(remedy)] = {
            "levels": {
                order: _levels(here.filter(order=order), own.filter(order=order))
                for order in here["order"].unique(maintain_order=True)
            },
            "against": VANILLA_STREAM if here["mode"][0] == "stream" else VANILLA,
        }
    for of_run in found.values():
        for remedy in of_run.values():  # a run that is told no length reads the same in both modes
            remedy["against"] = remedy["against"] if remedy["against"] in of_run else VANILLA
    return {
        "entries": [
            {"name": name, "words": words.get(name, ""), "control": control}
            for name, control in shown.select("remedy", "control").rows()
        ],
        "images": levels["n_images"].max(),
        "runs": found,
    }


def dashes(line: Line) -> list[float]:
    """A line of matplotlib's as lengths of dash and gap in line widths; none for a full one."""
    return [] if isinstance(line, str) else [float(length) for length in line[1]]


def _levels(rows: pl.DataFrame, trainings: pl.DataFrame | None) -> dict[str, Curve]:
    """{level: curve} of those that are known.

    Args:
        rows: step, and of each level its mean <level>, <level>_lo, <level>_hi.
        trainings: seed, step and each level of every training, or fewer; None: not told apart.
    """
    known = [level for level in ("psnr", ACCURACY.level) if level in rows.columns and rows[level].count()]
    return {level: _curve(rows, trainings, level) for level in known}


def _curve(rows: pl.DataFrame, trainings: pl.DataFrame | None, level: str) -> Curve:
    rows = rows.drop_nulls(level).sort("step")
    steps = rows["step"].to_list()
    curve: Curve = {"t": steps, "mean": _rounded(rows[level])}
    if trainings is None:
        return curve
    curve |= {"low": _rounded(rows[f"{level}_lo"]), "high": _rounded(rows[f"{level}_hi"]), "seeds": {}}
    if level in trainings.columns:
        for (seed,), own in trainings.drop_nulls(level).sort("seed", "step").group_by("seed", maintain_order=True):
            if own["step"].to_list() == steps:
                curve["seeds"][str(seed)] = _rounded(own[level])
    return curve


def _rounded(levels: pl.Series) -> list[float]:
    return levels.round(DIGITS).to_list()

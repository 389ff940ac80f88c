"""Errors of single queries, of tasks that ask for what they predict; see `lgmamba.tasks.queried.asked`."""

import polars as pl

from lgmamba.analysis.collect import RunFolder
from lgmamba.analysis.files import error_over_seeds
from lgmamba.config.study import Params
from lgmamba.metrics import psnr

LEAST = 0.01
"""Share of the queries of its kind that a row has which is drawn, at least: few of them say little."""
IN_OCTAVES = ("rank", "recall")
"""Aspects whose values are put together: 1, 2 and 3, 4 to 7, ..."""


def asked_frame(folders: list[RunFolder]) -> pl.DataFrame:
    """asked.parquet over seeds: run, aspect, queries, step, value -> mse, its lowest and highest over seeds, count (a seed), n_seeds.

    Of numbers of queries and of ages, value is the lowest of an octave.
    """
    keys = ("run", "aspect", "queries", "step", "value")
    rows = pl.concat([pl.scan_parquet(folder.path / "evaluation/asked.parquet") for folder in folders])
    octave = 2 ** pl.col("value").cast(pl.Float64).log(2).floor().cast(pl.Int64)
    value = pl.when(pl.col("aspect").is_in(IN_OCTAVES)).then(octave).otherwise(pl.col("value"))
    of_seeds = (
        rows.with_columns(value=value)
        .group_by(*keys, "seed")
        .agg(mse=(pl.col("mse") * pl.col("count")).sum() / pl.col("count").sum(), count=pl.col("count").sum())
    )
    return error_over_seeds(of_seeds.sort(*keys, "seed"), keys)


def asked_rows(params: Params, asked: pl.DataFrame) -> pl.DataFrame:
    """At each run's own L0 and at the longest step: panel, run, L0, step, aspect, queries, value, psnr with lowest and highest seed."""
    longest = asked["step"].max()
    parts = []
    for name, run in params.runs_by_name().items():
        share = pl.col("count") / pl.col("count").sum().over("aspect", "queries", "step")
        here = asked.filter(pl.col("run") == name).filter(share >= LEAST)
        for panel, step in (("L0", run.L0), ("longest", longest)):
            rows = here.filter(pl.col("step") == step)
            parts.append(rows.with_columns(panel=pl.lit(panel), L0=pl.lit(run.L0, pl.Int64)))
    columns = ("panel", "run", "L0", "step", "aspect", "queries", "value")
    return pl.concat(parts).select(
        *columns,
        psnr=psnr(pl.col("mse")),
        psnr_lo=psnr(pl.col("mse_hi")),
        psnr_hi=psnr(pl.col("mse_lo")),
        n_seeds="n_seeds",
    )


def told_frame(asked: pl.DataFrame) -> pl.DataFrame:
    """What wrong lengths do to a model that is told one: run, step T, told (0 = another sequence's) -> psnr, difference from its own."""
    rows = asked.filter(pl.col("aspect").is_in(["told", "told_other"])).select(
        "run", "step", told="value", psnr=psnr(pl.col("mse"))
    )
    own = rows.filter(pl.col("told") == pl.col("step")).select("run", "step", own="psnr")
    joined = rows.join(own, on=["run", "step"])
    return joined.with_columns(difference=pl.col("psnr") - pl.col("own")).drop("own").sort("run", "step", "told")


def written_by_queries(asked: pl.DataFrame) -> pl.DataFrame:
    """How much the queries write: run, step -> PSNR (dB) of queries asked one after the other minus that of the same asked alone."""
    ranks = asked.filter(pl.col("aspect") == "rank")
    means = ranks.group_by("run", "step", "queries").agg(
        (pl.col("mse") * pl.col("count")).sum() / pl.col("count").sum()
    )
    wide = means.pivot("queries", index=["run", "step"], values="mse")
    return wide.select("run", "step", difference=psnr(pl.col("sequential")) - psnr(pl.col("independent"))).sort(
        "run", "step"
    )

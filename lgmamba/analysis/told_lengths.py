"""What a length that is not its sequence's does to a run that is told one; see `lgmamba.probe.of_told_lengths`."""

import polars as pl


def told_changes(told: pl.DataFrame) -> pl.DataFrame:
    """What wrong lengths change, means over seeds: run, step T, factor told / T -> own (level told T), change of the level, n_seeds.

    Only runs that were told more than their own lengths.

    Args:
        told: rows of the probe: run, seed, step, told, level.
    """
    own = told.filter(pl.col("told") == pl.col("step")).select("run", "seed", "step", own="level")
    reads = told.filter(pl.col("told") != pl.col("step"))["run"].unique().to_list()
    return (
        told.filter(pl.col("run").is_in(reads))
        .join(own, on=["run", "seed", "step"])
        .with_columns(factor=pl.col("told") / pl.col("step"), change=pl.col("level") - pl.col("own"))
        .group_by("run", "step", "factor")
        .agg(pl.col("own", "change").mean(), n_seeds=pl.len())
        .sort("run", "step", "factor")
    )

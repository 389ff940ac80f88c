"""The frames that the figures of remedies draw, row for row."""

import polars as pl

from lgmamba.analysis.figure_data import in_octaves
from lgmamba.analysis.remedies import AT_L0, BEST_CONTROL, BEYOND, VANILLA
from lgmamba.analysis.remedies.frames import longer_generalist
from lgmamba.config.remedies import ORACLES, RESERVED
from lgmamba.config.study import Params

MAPS = 3  # remedies with a retention map
ORDER_OF_CONTROLS = ("vanilla", "vanilla_stream", "freeze", "subset_random", "subset_cover", "truncate", "reset")


def remedy_rows(params: Params, levels: pl.DataFrame, differences: pl.DataFrame) -> pl.DataFrame:
    """Every remedy and control at T >= L0, best first; without the ideal memory `paste`, which leaves every axis.

    Columns: those of remedies.parquet; delta (PSNR(T) - PSNR(L0), dB) with interval; ahead (PSNR minus that of the best control of
    each seed, dB) with interval; both also of accuracy (pp) where classes are named; rank: 1 for the remedy whose delta is largest,
    mean over runs, orders and T >= 2 L0, null for vanilla and controls, which come after; best_of_kind: whether no remedy of its kind
    has a better rank; longer: the generalist of the next longer L0, longer_psnr: its PSNR at its L0.
    """
    keys = ("run", "order", "remedy", "step")
    columns = [name for name in differences.columns if "effect" in name]
    delta, ahead = (
        differences.filter(against=against).select(*keys, pl.col(columns).name.replace("effect", name))
        for against, name in ((AT_L0, "delta"), (BEST_CONTROL, "ahead"))
    )
    rows = levels.filter(pl.col("factor") >= 1, pl.col("remedy").is_in(ORACLES).not_())
    rows = rows.join(delta, on=keys, how="left", maintain_order="left")
    at_L0 = pl.when(factor=1.0).then(0.0)
    rows = rows.with_columns(at_L0.otherwise(pl.col(name)).alias(name) for name in delta.columns if "delta" in name)
    rows = rows.join(ahead, on=keys, how="left", maintain_order="left")
    ranking = ranked(rows)
    rank = pl.DataFrame(
        {"remedy": ranking, "rank": range(1, len(ranking) + 1)}, schema={"remedy": pl.String, "rank": pl.Int64}
    )
    rows = rows.join(rank, on="remedy", how="left", maintain_order="left")
    best = pl.col("rank") == pl.col("rank").min().over("kind")
    rows = rows.with_columns(best_of_kind=best.fill_null(False))
    place = [*ranking, *(name for name in ORDER_OF_CONTROLS if name in set(rows["remedy"]))]
    rows = rows.join(_longer(params, levels), on=("run", "order"), how="left", maintain_order="left")
    order = pl.col("remedy").replace_strict(place, range(len(place)), return_dtype=pl.Int64)
    return rows.sort(order, maintain_order=True)


def ranked(rows: pl.DataFrame) -> list[str]:
    """Names of the remedies proper by their mean change from L0 beyond it, best first."""
    beyond = rows.filter(pl.col("factor") >= BEYOND, pl.col("remedy").is_in(RESERVED).not_())
    means = beyond.group_by("remedy", maintain_order=True).agg(pl.col("delta").mean())
    return means.sort("delta", descending=True, maintain_order=True)["remedy"].to_list()


def _longer(params: Params, levels: pl.DataFrame) -> pl.DataFrame:
    """run, order, longer, longer_psnr; of runs with a longer generalist."""
    found = []
    for run in params.the_remedy_evaluation.runs:
        if (longer := longer_generalist(params, run)) is not None:
            own = levels.filter(remedy=VANILLA, run=longer, factor=1.0)
            found += [(run, order, longer, psnr) for order, psnr in own.select("order", "psnr").rows()]
    schema = {"run": pl.String, "order": pl.String, "longer": pl.String, "longer_psnr": pl.Float64}
    return pl.DataFrame(found, schema=schema, orient="row")


def memory_rows(params: Params, retention: pl.DataFrame) -> pl.DataFrame:
    """remedies_memory.parquet: retention maps in the first order: run, remedy, step, age_low, age_high, mse, count, n_seeds."""
    keys = ("run", "remedy", "step")
    return in_octaves(retention.filter(order=params.the_remedy_evaluation.orders[0]), *keys).sort(*keys, "age_low")


def retention_rows(params: Params, figure_data: pl.DataFrame, memory: pl.DataFrame) -> pl.DataFrame:
    """Retention maps in the first order: run, L0, remedy, step, age_low, age_high, mse, count.

    Of vanilla, and of the best remedy of each of the best kinds.

    Args:
        params: the study.
        figure_data: as `remedy_rows` gives them, for the ranking.
        memory: as `memory_rows` gives them.
    """
    best = figure_data.filter("best_of_kind").unique("remedy").sort("rank")["remedy"].to_list()
    shown = pl.DataFrame({"remedy": [VANILLA, *best[:MAPS]]})
    runs = figure_data.select("run", "L0").unique(maintain_order=True).with_row_index("at")
    return (
        runs.join(shown, how="cross")
        .join(memory, on=("run", "remedy"), maintain_order="left")
        .sort("step", "age_low", maintain_order=True)
        .sort("at", pl.col("remedy").replace_strict(shown["remedy"], range(len(shown))), maintain_order=True)
        .drop("at")
    )

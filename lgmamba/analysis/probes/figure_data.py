"""The frames that the figures of the probes draw, row for row: panel, run, L0, series, x, y, lo, hi, and what belongs to it.

Means over seeds; lo and hi are the lowest and highest seed. factor = T / L0.
"""

import polars as pl

from lgmamba.analysis import figures_of
from lgmamba.config.study import Params

BINS_PER_OCTAVE = 5
COLUMNS = ("panel", "run", "L0", "series", "layer", "factor", "x", "y", "lo", "hi", "weight")


def probes_figure_frames(params: Params, frames: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """{figure: its frame}, from the frames of `collect`."""
    makers = {
        "read_outs": read_outs_rows,
        "receptive_field": receptive_field_rows,
        "states": states_rows,
        "modes": modes_rows,
    }
    return {name: _in_order(params, rows(frames)) for name, rows in makers.items() if name in figures_of(params)}


def _in_order(params: Params, frame: pl.DataFrame) -> pl.DataFrame:
    order = pl.DataFrame({"run": params.the_probes.runs, "position": range(len(params.the_probes.runs))})
    return frame.join(order, on="run", maintain_order="left").sort("position", maintain_order=True).drop("position")


def _over_seeds(
    frame: pl.DataFrame, panel: str, series: pl.Expr, x: pl.Expr, y: pl.Expr, layer: pl.Expr | None = None
) -> pl.DataFrame:
    """Rows of one panel."""
    named = frame.select(
        "run",
        pl.col("L0").cast(pl.Int64),
        series.cast(pl.String).alias("series"),
        (pl.lit(-1) if layer is None else layer).cast(pl.Int64).alias("layer"),
        (pl.col("step") / pl.col("L0")).alias("factor"),
        x.cast(pl.Float64).alias("x"),
        y.cast(pl.Float64).alias("y"),
    )
    keys = ["run", "L0", "series", "layer", "factor", "x"]
    return (
        named.drop_nulls("y")
        .group_by(keys, maintain_order=True)
        .agg(y=pl.col("y").mean(), lo=pl.col("y").min(), hi=pl.col("y").max(), weight=pl.len().cast(pl.Float64))
        .with_columns(panel=pl.lit(panel))
        .select(COLUMNS)
    )


def read_outs_rows(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """psnr: PSNR of every read-out (series) against T / L0."""
    factor = pl.col("step") / pl.col("L0")
    return _over_seeds(frames["read_outs"], "psnr", pl.col("read_out"), factor, pl.col("psnr"))


def receptive_field_rows(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """distance: mean distance of every layer's attention over T, against T / L0, with that of even attention.

    gradient: share of the gradient up to an age. swap: share of a swapped patch that is drawn, by its age.
    """
    factor = pl.col("step") / pl.col("L0")
    distance = frames["distance"].filter(form="scan", aggregation="rownorm")
    even = distance.filter(layer=0)
    field = frames["receptive_field"]
    gradient = field.filter(kind="gradient").with_columns(
        cumulative=pl.col("share").cum_sum().over("run", "seed", "step", order_by="age_low")
    )
    swap = field.filter(kind="swap")
    age = 1 + (pl.col("age_low") + pl.col("age_high")) / 2
    return pl.concat(
        [
            _over_seeds(
                distance, "distance", pl.lit("layer"), factor, pl.col("mean_distance") / pl.col("step"), pl.col("layer")
            ),
            _over_seeds(even, "distance", pl.lit("even"), factor, pl.col("reference") / pl.col("step")),
            _over_seeds(gradient, "gradient", pl.lit("cumulative"), 1 + pl.col("age_high"), pl.col("cumulative")),
            _over_seeds(swap, "swap", pl.lit("gain"), age, pl.col("gain")),
        ]
    )


def states_rows(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """norm: ||h|| over that at L0. beyond: share of entries outside the range of training. content: PSNR of read-outs."""
    factor = pl.col("step") / pl.col("L0")
    states, content = frames["states"], frames["content"]
    last = content["layer"].max()
    return pl.concat(
        [
            _over_seeds(states, "norm", pl.lit("layer"), factor, pl.col("norm_ratio"), pl.col("layer")),
            _over_seeds(states, "beyond", pl.lit("layer"), factor, 100 * pl.col("beyond"), pl.col("layer")),
            _over_seeds(
                content.filter(pl.col("layer").is_in([-1, last])),
                "content",
                pl.col("read_out"),
                factor,
                pl.col("psnr"),
                pl.col("layer"),
            ),
        ]
    )


def modes_rows(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """All at the longest T of each run.

    growth: tested modes of all layers and seeds in bins of predicted (x) and measured (y) growth, weight = how many.
    explained: share of its variance that the forecast explains, series = account/weighting; layer -1 = all.
    loss: PSNR(L0) - PSNR(T). groups: PSNR gained by an intervention (series, with /) on a group, x = position of the group.
    remedy_effects: growth (y) of a group's modes under a remedy, series = remedy/group, mean over layers of the median; x = PSNR at T.
    """
    longest = pl.col("step") == pl.col("step").max().over("run")
    modes = frames["modes"].filter(longest, pl.col("tested"))
    bin_of = lambda name: (pl.col(name).log(2) * BINS_PER_OCTAVE).round() / BINS_PER_OCTAVE  # noqa: E731
    growth = (
        modes.with_columns(x=bin_of("predicted"), y=bin_of("measured"))
        .group_by("run", "L0", (pl.col("step") / pl.col("L0")).alias("factor"), "x", "y", maintain_order=True)
        .agg(weight=pl.len().cast(pl.Float64))
        .with_columns(
            pl.lit("growth").alias("panel"),
            pl.lit("modes").alias("series"),
            pl.col("L0").cast(pl.Int64),
            pl.lit(-1, pl.Int64).alias("layer"),
            pl.lit(2.0).pow(pl.col("x")).alias("x"),
            pl.lit(2.0).pow(pl.col("y")).alias("y"),
            pl.lit(None, pl.Float64).alias("lo"),
            pl.lit(None, pl.Float64).alias("hi"),
        )
        .select(COLUMNS)
    )
    explained = frames["explained"].filter(longest, estimator="mean")
    groups = frames["groups"].filter(longest, layer=-1)
    effects = frames["remedy_effects"].filter(longest)
    names = groups["group"].unique(maintain_order=True).to_list()
    position = pl.col("group").replace_strict(names, range(len(names)), return_dtype=pl.Float64)
    by_group = effects.group_by("run", "seed", "L0", "step", "remedy", "group", maintain_order=True).agg(
        measured=pl.col("measured").log().mean().exp(), psnr=pl.col("psnr").first()
    )
    psnr = by_group.group_by("run", "remedy").agg(mean_psnr=pl.col("psnr").mean())
    by_group = by_group.join(psnr, on=["run", "remedy"], maintain_order="left")
    loss = effects.filter(remedy="none", layer=0).unique(["run", "seed"], maintain_order=True)
    return pl.concat(
        [
            growth,
            _over_seeds(
                explained,
                "explained",
                pl.col("account") + "/" + pl.col("weighting"),
                pl.lit(0.0),
                pl.col("share"),
                pl.col("layer"),
            ),
            _over_seeds(loss, "loss", pl.lit("loss"), pl.lit(0.0), pl.col("psnr_L0") - pl.col("psnr")),
            _over_seeds(
                groups,
                "groups",
                pl.col("intervention") + "/" + pl.col("group"),
                position,
                pl.col("psnr") - pl.col("plain"),
            ),
            _over_seeds(
                by_group,
                "remedy_effects",
                pl.col("remedy") + "/" + pl.col("group"),
                pl.col("mean_psnr"),
                pl.col("measured"),
            ),
        ]
    )

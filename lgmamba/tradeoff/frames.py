"""The frames of a study, from the files of every stack.

points      one row for each run of every stack
frontier    one row for each stack of the frontier and seed: gaps, area, synergy
summary     the same and the levels at each weight, over seeds: mean, Student's interval
contrasts   the primary contrasts, judged as everywhere (`lgmamba.analysis.contrasts`)
history     losses and cosines of the gradients by training step, means over seeds
samples     errors of the first test images of the runs that the contrasts are about
pictures    reconstructions along w
stacks      sizes, times, baselines
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lgmamba.analysis.collect import CollectError
from lgmamba.analysis.contrasts import Tested, judged
from lgmamba.analysis.files import read_json, write_frame
from lgmamba.analysis.frontier import conflict_gaps, exchange_area, synergy
from lgmamba.analysis.statistics import effect_of
from lgmamba.metrics import psnr
from lgmamba.records import begin, checked, finish
from lgmamba.tradeoff.claims import AT_ONE_WEIGHT, Point, TradeoffContrast
from lgmamba.tradeoff.config import TradeoffParams
from lgmamba.tradeoff.jobs import records_of, stack_dir
from lgmamba.tradeoff.keys import FRAME_FILES, FRAMES, frames_key
from lgmamba.tradeoff.stack_file import StackFile
from lgmamba.tradeoff.stage import stack_files

LEVELS = (
    *("psnr", "accuracy", "mse", "probe_psnr", "probe_accuracy_linear", "probe_accuracy_mlp"),
    *("train_accuracy", "used", "used_classes", "eta2"),
)
"""Columns of `points` that `summary` has over seeds, at each weight."""
OF_FRONTIERS = ("gap_r", "gap_c", "area", "synergy")


def evaluate(params: TradeoffParams, results: Path, out: Path) -> None:
    """Write every frame, and last their record.

    Args:
        results: folder with stacks/.
        out: folder of the frames.
    Raises:
        ArtefactError: a stack is missing or damaged; names it.
        CollectError: stacks were trained on different images.
    """
    stacks = params.stacks()
    read = {name: _read(results, stack) for name, stack in stacks.items()}
    if len(images := {record.key.inputs["images"][:12] for record in records_of(params).values() if record}) > 1:
        raise CollectError(f"stacks were trained with different images: {', '.join(sorted(images))}; train them again")
    points = pl.concat([_points(stack, read[name]) for name, stack in stacks.items()], how="diagonal_relaxed")
    about = pl.DataFrame([_about(stack, read[name]["about"]) for name, stack in stacks.items()])
    frontier = frontier_frame(points, about, params)
    frames = {
        "points": points,
        "frontier": frontier,
        "summary": summary_frame(points, frontier, params.claims.level),
        "contrasts": contrasts_frame(points, frontier, params),
        "history": pl.concat([_history(stack, read[name]["history"]) for name, stack in stacks.items()]),
        "samples": _samples(stacks.values(), read, params),
        "pictures": next(r["pictures"] for r in read.values() if "pictures" in r),
        "stacks": about,
    }
    begin(out)
    for name in FRAMES:
        write_frame(frames[name], out / f"{name}.parquet")
    finish(frames_key(params, records_of(params)), out, list(FRAME_FILES))


def _read(results: Path, stack: StackFile) -> dict[str, Any]:
    folder, found = stack_dir(results, stack.name), {}
    for name in stack_files(stack):
        path = checked(folder, name, "tradeoff train")
        key = "about" if name == "stack.json" else path.stem
        found[key] = read_json(path) if name == "stack.json" else pl.read_parquet(path)
    return found


def _of(stack: StackFile) -> list[pl.Expr]:
    """What a row says of its stack."""
    values = {
        "stack": stack.name,
        "variant": stack.variant,
        "encoder": stack.encoder_name,
        "family": stack.encoder.kind,
        "size": stack.encoder.size,
    }
    return [pl.lit(value).alias(name) for name, value in values.items()] + [
        pl.lit(stack.latent, pl.Int64).alias("latent")
    ]


def _points(stack: StackFile, read: dict[str, Any]) -> pl.DataFrame:
    rows = read["points"].with_columns(pl.col("mse").cast(pl.Float64))
    rows = rows.with_columns(
        _weights(stack, len(rows)) if stack.variant != "linear" else pl.lit(None, pl.Float64).alias("weight")
    )
    levels = [psnr(pl.col("mse")).alias("psnr")]
    if "probe_mse" in rows.columns:
        levels.append(psnr(pl.col("probe_mse").cast(pl.Float64)).alias("probe_psnr"))
    return rows.select(*_of(stack), *rows.columns).with_columns(levels)


def _weights(stack: StackFile, rows: int) -> pl.Series:
    """Weights as configured, run by run: files have them in the precision that was computed in."""
    runs = stack.weights * len(stack.seeds)
    return pl.Series("weight", [w for w in runs for _ in range(rows // len(runs))], pl.Float64)


def _about(stack: StackFile, about: dict[str, Any]) -> dict[str, Any]:
    names = ("stack", "variant", "encoder", "family", "size", "latent")
    values = (stack.name, stack.variant, stack.encoder_name, stack.encoder.kind, stack.encoder.size, stack.latent)
    return {
        **dict(zip(names, values, strict=True)),
        "runs": len(stack.seeds) * len(stack.weights),
        "steps": stack.train.steps,
        **{f"n_{part}": about["sizes"].get(part) for part in ("encoder", "decoder", "classifier")},
        "n_classes": about["n_classes"],
        **{f"images_{split}": about["counts"][split] for split in ("train", "val", "test")},
        "mse_mean_image": about["mse_mean_image"],
        "chance": about["chance"],
        "wall_s": about["wall_s"],
        "device": about["where"]["gpu"] if about["device"] == "cuda" else about["where"]["cpu"],
        "torch": about["where"]["packages"]["torch"],
        "commit": about["where"]["git"]["commit"],
    }


def frontier_frame(points: pl.DataFrame, about: pl.DataFrame, params: TradeoffParams) -> pl.DataFrame:
    """Gaps, area and synergy of every stack with both ends, seed by seed.

    `area` is null where not both gaps of the stack have intervals above 0: there is nothing to exchange.
    """
    margins, rows = params.claims.margins, []
    baseline = {row["stack"]: row for row in about.iter_rows(named=True)}
    ended = points.filter(pl.col("variant").is_in(["main", "raw"]))
    for (stack, seed), runs in ended.group_by("stack", "seed", maintain_order=True):
        runs = runs.sort("weight")
        mse, accuracy = runs["mse"].to_numpy(), runs["accuracy"].to_numpy()
        gaps = conflict_gaps(mse, accuracy, baseline[stack]["mse_mean_image"], baseline[stack]["chance"])
        first = runs.row(0, named=True)
        rows.append(
            {name: first[name] for name in ("stack", "variant", "encoder", "family", "size", "latent")}
            | {"seed": seed, "gap_r": gaps[0], "gap_c": gaps[1], "area": exchange_area(mse, accuracy)}
            | {"synergy": synergy(mse, accuracy, margins.psnr, margins.accuracy)}
        )
    frame = pl.DataFrame(rows).with_columns(pl.col("gap_r", "gap_c", "area").fill_nan(None))
    both = [
        stack
        for (stack,), seeds in frame.group_by("stack", maintain_order=True)
        if all(_above_zero(seeds[gap], params.claims.level) for gap in ("gap_r", "gap_c"))
    ]
    return frame.with_columns(pl.when(pl.col("stack").is_in(both)).then("area").alias("area"))


def _above_zero(values: pl.Series, level: float) -> bool:
    """Whether the interval lies above 0; of one training, whether its value does."""
    if values.null_count():
        return False
    found = effect_of(values.to_list(), level)
    return (found.effect if found.n_seeds < 2 else found.lo) > 0


def summary_frame(points: pl.DataFrame, frontier: pl.DataFrame, level: float) -> pl.DataFrame:
    """Mean and Student's interval over seeds: of LEVELS for each stack, weight and kind of row, of OF_FRONTIERS for each stack."""
    keys = ["stack", "variant", "encoder", "family", "size", "latent"]
    rows = []
    for frame, by, names in ((points, [*keys, "what", "weight"], LEVELS), (frontier, keys, OF_FRONTIERS)):
        for values, runs in frame.group_by(by, maintain_order=True):
            for name in (n for n in names if n in runs.columns):
                found = [v for v in runs[name].to_list() if v is not None and np.isfinite(v)]
                if len(found) < len(runs):  # a mean over some seeds would not be comparable
                    continue
                effect = effect_of(found, level)
                numbers = {
                    "value": effect.effect,
                    "lo": effect.lo,
                    "hi": effect.hi,
                    "sd": effect.sd,
                    "n_seeds": len(found),
                }
                rows.append(dict(zip(by, values, strict=True)) | {"measure": name} | numbers)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return frame.with_columns(pl.col("lo", "hi", "sd").fill_nan(None))


def contrasts_frame(points: pl.DataFrame, frontier: pl.DataFrame, params: TradeoffParams) -> pl.DataFrame:
    """One row for each primary contrast, columns of `lgmamba.analysis.contrasts.SCHEMA`."""
    claims = params.claims

    def tested(contrast: TradeoffContrast) -> Tested:
        of = _levels(contrast, contrast.of, points, frontier)
        minus = (
            dict.fromkeys(of, 0.0) if contrast.minus is None else _levels(contrast, contrast.minus, points, frontier)
        )
        words = "0" if contrast.minus is None else describe_point(contrast.minus)
        rule = claims.rule(contrast.measure)
        return Tested(
            contrast.name,
            contrast.claim,
            contrast.claimed,
            describe_point(contrast.of),
            words,
            of,
            minus,
            rule,
            claims.seeds,
        )

    return judged([tested(contrast) for contrast in claims.primary])


def _levels(contrast: TradeoffContrast, side: Point, points: pl.DataFrame, frontier: pl.DataFrame) -> dict[int, float]:
    """Seed -> level of one side."""
    frame = points if contrast.measure in AT_ONE_WEIGHT else frontier
    here = frame.filter(variant="main", encoder=side.encoder, latent=side.latent)
    if side.weight is not None:
        here = here.filter(pl.col("weight") == side.weight)
    return dict(here.select("seed", contrast.measure).drop_nulls().iter_rows())


def describe_point(side: Point) -> str:
    """mlp, m = 8, w = 0.9."""
    words = f"{side.encoder.replace('_', ' ')}, m = {side.latent}"
    return words if side.weight is None else f"{words}, w = {side.weight:g}"


def _history(stack: StackFile, history: pl.DataFrame) -> pl.DataFrame:
    """Means over seeds for each weight and step."""
    weight = (
        pl.col("run")
        .cast(pl.Int64)
        .mod(len(stack.weights))
        .replace_strict(dict(enumerate(stack.weights)), return_dtype=pl.Float64)
    )
    numbers = [pl.col(name).cast(pl.Float64).mean() for name in ("mse", "ce", "cosine_z", "cosine_encoder")]
    rows = history.with_columns(weight.alias("weight"), pl.col("step").cast(pl.Int64))
    means = rows.group_by("weight", "step", maintain_order=True).agg(numbers)
    return means.select(*_of(stack), *means.columns)


def _samples(stacks: Iterable[StackFile], read: dict[str, Any], params: TradeoffParams) -> pl.DataFrame:
    sides = [side for c in params.claims.primary for side in (c.of, c.minus) if side is not None]
    named = {(side.encoder, side.latent) for side in sides}
    frames = []
    for stack in stacks:
        if stack.variant == "main" and (not named or (stack.encoder_name, stack.latent) in named):
            rows = read[stack.name]["samples"]
            frames.append(rows.select(*_of(stack), *rows.columns).with_columns(_weights(stack, len(rows))))
    return pl.concat(frames)

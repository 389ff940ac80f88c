"""The tidy frames of a study: one row per run, seed, step, ... with no choice made for any figure."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from lgmamba.analysis.claims import Evidence
from lgmamba.analysis.collect import RunFolder
from lgmamba.analysis.families import describe_run, families, kind_of
from lgmamba.analysis.files import ENGINE
from lgmamba.analysis.statistics import HOLDS, Effect
from lgmamba.config.study import Params
from lgmamba.metrics import psnr

SETTING = ("mode", "order", "method", "step")


def curves_frame(folders: list[RunFolder], study: str) -> pl.DataFrame:
    """Error against step: study, run, seed, mode, order, method, step -> mse, psnr, n_images, n_repeats.

    mse is the mean over images and visiting orders, psnr (dB) is of that mean.
    """
    parts = []
    for folder in folders:
        means = (
            pl.scan_parquet(folder.path / "probe/steps.parquet")
            .group_by(SETTING)
            .agg(
                pl.col("mse").cast(pl.Float64).mean(),
                n_images=pl.col("image").n_unique(),
                n_repeats=pl.col("repeat").n_unique(),
            )
        )
        named = means.select(
            pl.lit(study).alias("study"),
            pl.lit(folder.run).alias("run"),
            pl.lit(folder.seed, pl.Int64).alias("seed"),
            *SETTING,
            "mse",
            psnr(pl.col("mse")).alias("psnr"),
            "n_images",
            "n_repeats",
        )
        parts.append(named.collect(engine=ENGINE).sort(SETTING))
    return pl.concat(parts)


def summary_frame(curves: pl.DataFrame) -> pl.DataFrame:
    """Curves over seeds: mean, lowest and highest PSNR, standard deviation (dB), n_seeds."""
    return curves.group_by("study", "run", *SETTING, maintain_order=True).agg(
        psnr=pl.col("psnr").mean(),
        psnr_lo=pl.col("psnr").min(),
        psnr_hi=pl.col("psnr").max(),
        psnr_sd=pl.col("psnr").std(),
        n_seeds=pl.len(),
        n_images=pl.col("n_images").first(),
    )


def retention_frame(maps: Iterable[Path], keys: tuple[str, ...]) -> pl.DataFrame:
    """Retention maps over seeds: <keys> -> mse, its lowest and highest over seeds, count (cells a seed), n_seeds.

    Args:
        maps: retention.parquet of every training that was read.
        keys: columns that name a row, without the seed; the frame is sorted by them, first key first.
    """
    over_seeds = (
        pl.concat([pl.scan_parquet(path) for path in maps])
        .group_by(keys)
        .agg(
            mse=pl.col("mse").mean(),
            mse_lo=pl.col("mse").min(),
            mse_hi=pl.col("mse").max(),
            count=pl.col("count").mean(),
            n_seeds=pl.len(),
        )
    )
    return over_seeds.collect(engine=ENGINE).sort(keys)


def history_frame(folders: list[RunFolder]) -> pl.DataFrame:
    """history.parquet of every training, one after the other."""
    return pl.concat([pl.read_parquet(folder.path / "train/history.parquet") for folder in folders])


def lengths_frame(params: Params) -> pl.DataFrame:
    """Distributions of training lengths: run, length (patches), probability at the end of training; lengths with none left out."""
    rows = [
        {"run": name, "length": length, "probability": p}
        for name, run in params.runs_by_name().items()
        for length, p in enumerate(run.task.lengths.pmf())
        if p > 0
    ]
    return pl.DataFrame(rows)


GAP = ("gap", "gap_shown", "gap_closed", "gap_lo", "gap_hi", "beside", "beside_lo", "beside_hi")
"""Columns of the envelope that only an adaptive run has."""


def envelope_frame(ev: Evidence) -> pl.DataFrame:
    """Specialists, generalist and adaptive run of each family at every length T that the generalist was trained on.

    Columns: family, role, run, step (T, patches), psnr with interval over images and seeds, lowest and highest seed; for the adaptive
    run at lengths with a specialist: gap (specialist - generalist, dB), gap_shown (whether that gap is), gap_closed with interval, in 1,
    and beside (adaptive run - specialist, dB) with interval.
    """
    return pl.DataFrame(
        list(_envelope_rows(ev)),
        infer_schema_length=None,
        schema_overrides=dict.fromkeys(GAP, pl.Float64) | {"gap_shown": pl.Boolean},
    )


def _envelope_rows(ev: Evidence) -> Iterator[dict[str, Any]]:
    drawn: set[str] = set()
    for family in families(ev.params):
        lengths = [T for T in ev.samples.steps(family.generalist) if T in family.lengths]
        roles = [("adaptive", family.adaptive, lengths)]
        if family.generalist not in drawn:  # several length-adaptive runs may share the rest of a family
            specialists = [("specialist", name, [T]) for T, name in family.specialists.items()]
            roles = [*specialists, ("generalist", family.generalist, lengths), *roles]
        drawn.add(family.generalist)
        for role, run, steps in roles:
            for T in steps:
                columns = ev.samples.of(run, T)
                if columns is None:
                    continue
                row = {"family": family.generalist, "role": role, "run": run, "step": T, "L0": family.L0}
                row |= level(ev.bootstrap.level_of(columns), "psnr")
                gap = dict.fromkeys(GAP)
                if role == "adaptive" and T in family.specialists:
                    gap = _gap(
                        ev, columns, ev.samples.of(family.generalist, T), ev.samples.of(family.specialists[T], T)
                    )
                yield row | gap


def _gap(ev: Evidence, adaptive: list[int], generalist: list[int], specialist: list[int]) -> dict[str, Any]:
    """A ratio means something only where its denominator is shown to be above zero."""
    gap = ev.bootstrap.difference(specialist, generalist)
    shown = gap.verdict(+1) == HOLDS
    closed = ev.bootstrap.gap_closed(adaptive, generalist, specialist)
    numbers = (closed.effect, closed.lo, closed.hi) if shown else (None, None, None)
    beside = ev.bootstrap.difference(adaptive, specialist)
    values = (gap.effect, shown, *numbers, beside.effect, beside.lo, beside.hi)
    return dict(zip(GAP, values, strict=True))


def degradation_frame(ev: Evidence) -> pl.DataFrame:
    """PSNR(T) - PSNR(L0) of every run at every probed T >= L0.

    Columns: run, kind, L0, step, factor = T / L0, delta (dB) with interval, lowest and highest seed.
    """
    rows = []
    for name, run in ev.params.runs_by_name().items():
        at_L0 = ev.samples.of(name, run.L0)
        for step in ev.samples.steps(name):
            columns = ev.samples.of(name, step)
            if step >= run.L0 and columns and at_L0:
                row = {"run": name, "kind": kind_of(run), "L0": run.L0, "step": step, "factor": step / run.L0}
                rows.append(row | level(ev.bootstrap.difference(columns, at_L0), "delta"))
    return pl.DataFrame(rows, infer_schema_length=None)


def level(effect: Effect, name: str) -> dict[str, float | int]:
    """A level or an effect as columns: <name> with its interval, lowest and highest seed, and what it rests on."""
    return {
        name: effect.effect,
        f"{name}_lo": effect.lo,
        f"{name}_hi": effect.hi,
        "seeds_lo": min(effect.per_seed),
        "seeds_hi": max(effect.per_seed),
        "n_seeds": effect.n_seeds,
        "n_images": effect.n_images,
    }


def runs_frame(folders: list[RunFolder]) -> pl.DataFrame:
    """One row per training: what it was, and what it cost."""
    return pl.DataFrame([_run_row(folder) for folder in folders], infer_schema_length=None)


def _run_row(folder: RunFolder) -> dict[str, Any]:
    train, probe, config = folder.train, folder.probe, folder.config
    final = train.get("final") or {}
    versions = train.get("versions") or {}
    return {
        "run": folder.run,
        "seed": folder.seed,
        "kind": kind_of(config),
        "description": describe_run(config),
        "L0": config.L0,
        "steps": train["steps"],
        "parameters": train.get("parameters"),
        "train_s": train.get("wall_s"),
        "images_per_s": train.get("images_per_s"),
        "probe_s": probe.get("wall_s"),
        "final_loss": _finite(final.get("loss")),
        "device": train.get("device"),
        "device_name": train.get("device_name"),
        "backend": train.get("backend"),
        "peak_rss_mb": train.get("peak_rss_mb"),
        "peak_gpu_mb": train.get("peak_gpu_mb"),
        "data_digest": train["data_digest"],
        "checkpoint_digest": probe["checkpoint_digest"],
        "train_code": train.get("code_digest"),
        "probe_code": probe.get("code_digest"),
        "git": _text(train.get("git")),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
    }


def _text(value: Any) -> str | None:
    """git state as one word: the commit, with + if tracked files differed."""
    if isinstance(value, dict):
        return f"{value.get('commit') or 'unknown':.12}{'+' if value.get('dirty') else ''}"
    return value


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

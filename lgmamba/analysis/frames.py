"""The tidy frames of a study: one row per run, seed, step, ... with no choice made for any figure."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from lgmamba.analysis.collect import RunFolder
from lgmamba.analysis.families import Family, describe_run, families, kind_of, trained_to
from lgmamba.analysis.files import ENGINE, error_over_seeds
from lgmamba.analysis.samples import Samples
from lgmamba.analysis.statistics import Effect, Trainings
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params
from lgmamba.metrics import ACCURACY, PIXELS, Metric

SETTING = ("mode", "order", "method", "step")


@dataclass(frozen=True)
class Evidence:
    """All that is computed from per-image errors: the study, its evaluations, and their levels."""

    params: Params
    samples: Samples
    trainings: Trainings

    @property
    def runs(self) -> set[str]:
        """Runs that have such errors: of accuracies, those that name a class."""
        return {run for run, *_ in self.samples.columns}

    def families(self) -> list[Family]:
        """The study's families as far as their runs have such errors: both that are compared, and the specialists that do."""
        return [
            replace(family, specialists={T: run for T, run in family.specialists.items() if run in self.runs})
            for family in families(self.params)
            if {family.generalist, family.adaptive} <= self.runs
        ]


def curves_frame(folders: list[RunFolder], study: str, metric: Metric = PIXELS) -> pl.DataFrame:
    """Error against step: study, run, seed, mode, order, method, step -> mse, psnr, n_images, n_repeats.

    mse is the mean error over samples and their sequences, psnr (dB) the level of that mean; so of every task. Of a study in which
    some run names the class also accuracy (%), null where none is named.
    """
    parts = []
    for folder in folders:
        errors = ("mse", ACCURACY.name) if names_classes(folder.config) else ("mse",)
        means = (
            pl.scan_parquet(folder.path / "evaluation/steps.parquet")
            .group_by(SETTING)
            .agg(
                pl.col(errors).cast(pl.Float64).mean(),
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
            metric.of_mean(pl.col("mse")).alias("psnr"),
            "n_images",
            "n_repeats",
            *(ACCURACY.of_mean(pl.col(error)).alias(ACCURACY.level) for error in errors[1:]),
        )
        parts.append(named.collect(engine=ENGINE).sort(SETTING))
    return pl.concat(parts, how="diagonal")


def summary_frame(curves: pl.DataFrame) -> pl.DataFrame:
    """Curves over seeds: mean, lowest and highest PSNR, standard deviation (dB), n_seeds; the same of accuracy (%) where it is known."""
    named = pl.col(ACCURACY.level)
    spreads = {"": named.mean(), "_lo": named.min(), "_hi": named.max(), "_sd": named.std()}
    return curves.group_by("study", "run", *SETTING, maintain_order=True).agg(
        psnr=pl.col("psnr").mean(),
        psnr_lo=pl.col("psnr").min(),
        psnr_hi=pl.col("psnr").max(),
        psnr_sd=pl.col("psnr").std(),
        n_seeds=pl.len(),
        n_images=pl.col("n_images").first(),
        **{f"{ACCURACY.level}{end}": value for end, value in spreads.items() if ACCURACY.level in curves.columns},
    )


def names_classes(run: RunConfig) -> bool:
    """Whether a run names the class of what it reads."""
    return run.model.class_head is not None


def of_accuracy(column: str) -> str:
    """What a column is called where it is about accuracies: <name> becomes accuracy_<name>, psnr becomes accuracy."""
    return column.replace("psnr", "accuracy") if "psnr" in column else f"accuracy_{column}"


def beside(
    frame: pl.DataFrame, accuracy: pl.DataFrame | None, on: Sequence[str], columns: Sequence[str]
) -> pl.DataFrame:
    """A frame with the same of accuracy beside it, under the names of `of_accuracy`.

    Args:
        accuracy: a frame of the same rows or fewer, whose levels are accuracies (%) and differences percentage points; None: nothing.
        on: columns that name a row; null is a name like any other.
    """
    if accuracy is None or accuracy.is_empty():
        return frame
    other = accuracy.select(*on, *(pl.col(name).alias(of_accuracy(name)) for name in columns))
    return frame.join(other, on=on, how="left", maintain_order="left", nulls_equal=True)


def retention_frame(maps: Iterable[Path], keys: tuple[str, ...]) -> pl.DataFrame:
    """Retention maps over seeds: <keys> -> mse, its lowest and highest over seeds, count (cells a seed), n_seeds.

    Args:
        maps: retention.parquet of every training that was read.
        keys: columns that name a row, without the seed; the frame is sorted by them, first key first.
    """
    return error_over_seeds(pl.concat([pl.scan_parquet(path) for path in maps]), keys)


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


BESIDE = ("lead", "gain", "beside")
"""Differences of the envelope, dB: specialist - generalist, adaptive - generalist, adaptive - specialist."""
LEADS = (*(f"{name}{end}" for name in ("psnr", *BESIDE) for end in ("", "_lo", "_hi")), "seeds_lo", "seeds_hi")
CHANGES = ("delta", "delta_lo", "delta_hi", "seeds_lo", "seeds_hi")
"""Columns of envelope and degradation of which accuracy has the same beside them."""
ENVELOPE: dict[str, type[pl.DataType]] = dict.fromkeys(("family", "role", "run"), pl.String) | dict.fromkeys(
    ("step", "L0"), pl.Int64
)
ENVELOPE |= dict.fromkeys(("psnr", "psnr_lo", "psnr_hi", "seeds_lo", "seeds_hi"), pl.Float64)
ENVELOPE |= dict.fromkeys(("n_seeds", "n_images"), pl.Int64)
ENVELOPE |= {f"{name}{end}": pl.Float64 for name in BESIDE for end in ("", "_lo", "_hi")}


def envelope_frame(ev: Evidence) -> pl.DataFrame:
    """Specialists, generalist and adaptive run of each family at every length T that the generalist was trained on.

    Columns: family, role, run, step (T, patches), psnr with interval over trainings, lowest and highest seed; for the adaptive run
    gain (adaptive - generalist, dB) with interval, and at lengths with a specialist lead (specialist - generalist) and beside
    (adaptive - specialist) with intervals.
    """
    return pl.DataFrame(list(_envelope_rows(ev)), schema=ENVELOPE)


def _envelope_rows(ev: Evidence) -> Iterator[dict[str, Any]]:
    drawn: set[str] = set()
    for family in ev.families():
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
                row |= level(ev.trainings.level_of(columns), "psnr")
                yield row | _beside(ev, family, T, columns if role == "adaptive" else None)


def _beside(ev: Evidence, family: Family, T: int, adaptive: list[int] | None) -> dict[str, float | None]:
    row: dict[str, float | None] = {f"{name}{end}": None for name in BESIDE for end in ("", "_lo", "_hi")}
    if adaptive is None:
        return row
    generalist, one = ev.samples.of(family.generalist, T), family.specialists.get(T)
    specialist = None if one is None else ev.samples.of(one, T)
    pairs = {"lead": (specialist, generalist), "gain": (adaptive, generalist), "beside": (adaptive, specialist)}
    for name, (a, b) in pairs.items():
        if a is not None and b is not None:
            row |= interval_of(ev.trainings.difference(a, b), name)
    return row


def degradation_frame(ev: Evidence) -> pl.DataFrame:
    """PSNR(T) - PSNR(L0) of every run at every T read >= L0.

    Columns: run, kind, L0, step, factor = T / L0, delta (dB) with interval, lowest and highest seed.
    """
    rows = []
    for name, run in ev.params.runs_by_name().items():
        at_L0 = ev.samples.of(name, run.L0)
        for step in ev.samples.steps(name):
            columns = ev.samples.of(name, step)
            if step >= run.L0 and columns and at_L0:
                row = {"run": name, "kind": kind_of(run), "L0": run.L0, "step": step, "factor": step / run.L0}
                rows.append(row | level(ev.trainings.difference(columns, at_L0), "delta"))
    return pl.DataFrame(rows, infer_schema_length=None)


REGRET: dict[str, type[pl.DataType]] = {"run": pl.String, "step": pl.Int64, "against": pl.String}
REGRET |= dict.fromkeys(("regret", "regret_lo", "regret_hi"), pl.Float64)


def regret_frame(ev: Evidence) -> pl.DataFrame:
    """Regret of every run at every length T that some run was trained at alone: PSNR(T) of that run minus PSNR(T) of this one.

    Columns: run, step (T), against (the run trained at T), regret (dB) with interval over trainings, paired by seed.
    """
    rows = []
    for name in ev.params.runs_by_name():
        for T, specialist in trained_to(ev.params, name).items():
            own, best = ev.samples.of(name, T), ev.samples.of(specialist, T)
            if specialist != name and own is not None and best is not None:
                row = {"run": name, "step": T, "against": specialist}
                rows.append(row | interval_of(ev.trainings.difference(best, own), "regret"))
    return pl.DataFrame(rows, schema=REGRET)


def with_regret(frame: pl.DataFrame, regret: pl.DataFrame) -> pl.DataFrame:
    """A frame with a row for each run and step, with its regret beside it; as it is where no run has any."""
    return frame if regret.is_empty() else frame.join(regret, on=["run", "step"], how="left", maintain_order="left")


def level(effect: Effect, name: str) -> dict[str, float | int | None]:
    """A level or an effect as columns: <name> with its interval, lowest and highest seed, and what it rests on."""
    return interval_of(effect, name) | {
        "seeds_lo": min(effect.per_seed),
        "seeds_hi": max(effect.per_seed),
        "n_seeds": effect.n_seeds,
        "n_images": effect.n_images,
    }


def interval_of(effect: Effect, name: str) -> dict[str, float | None]:
    """<name>, <name>_lo, <name>_hi; the ends are null for one training, which has no interval."""
    return {name: effect.effect, f"{name}_lo": _finite(effect.lo), f"{name}_hi": _finite(effect.hi)}


def runs_frame(folders: list[RunFolder]) -> pl.DataFrame:
    """One row per training: what it was, and what it cost."""
    return pl.DataFrame([_run_row(folder) for folder in folders], infer_schema_length=None)


def _run_row(folder: RunFolder) -> dict[str, Any]:
    train, evaluation, config = folder.train, folder.evaluation, folder.config
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
        "probe_s": evaluation.get("wall_s"),
        "final_loss": _finite(final.get("loss")),
        "device": train.get("device"),
        "device_name": train.get("device_name"),
        "backend": train.get("backend"),
        "peak_rss_mb": train.get("peak_rss_mb"),
        "peak_gpu_mb": train.get("peak_gpu_mb"),
        "data_digest": train["data_digest"],
        "checkpoint_digest": evaluation["checkpoint_digest"],
        "train_code": train.get("code_digest"),
        "probe_code": evaluation.get("code_digest"),
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

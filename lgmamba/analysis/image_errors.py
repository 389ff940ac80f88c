"""Errors of single images of a fixed sample, for readers who compute levels and verdicts again, or judge how images differ.

Kept are the settings that the primary contrasts are about, of every training. Rows of a split stand in the order of a hash of the image id
(`lgmamba.data.dataset.Dataset`), so that its first SAMPLE rows are a random sample of it, the same in every run, on every machine.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lgmamba.analysis.collect import CollectError, RunFolder
from lgmamba.analysis.files import ENGINE
from lgmamba.config.claims import Side, steps_at
from lgmamba.config.study import Params
from lgmamba.metrics import ACCURACY

SAMPLE = 1000
"""Images, at most."""
DIGITS = 12
"""Binary digits kept behind the leading one, those that errors are measured with (`lgmamba.probe.reconstruct.MANTISSA`); float16 has 10."""
DESCRIBED = ["L0 / 4", "L0", "4 L0", "25 L0"]
"""Lengths that are kept of every run where a study has no primary contrast."""
STAGES = {"reconstruct": "evaluation/steps.parquet", "remedy": "remedies/steps.parquet"}
"""Stage -> where it leaves errors by image, below the folder of a training."""
KEYS = ("method", "mode", "order", "step")


@dataclass(frozen=True)
class Setting:
    """What a level is of: a run, read by one of STAGES. mode: None: that of the remedy."""

    stage: str
    run: str
    method: str
    mode: str | None
    order: str
    step: int
    error: str


def settings_of(params: Params) -> frozenset[Setting]:
    """What the primary contrasts are about; read-outs are left out, whose errors by image the probe does not write."""
    sides = [side for contrast in params.claims.primary for side in (contrast.of, contrast.minus)]
    if sides:
        return frozenset(setting for side in sides if not side.read_out for setting in _of_side(params, side))
    order = params.evaluation.orders[0]
    return frozenset(
        Setting("reconstruct", name, "model", "prefix", order, step, "mse")
        for name, run in params.runs_by_name().items()
        for step in steps_at(DESCRIBED, run.L0)
    )


def _of_side(params: Params, side: Side) -> Iterator[Setting]:
    order, error = side.order or params.evaluation.orders[0], ACCURACY.name if side.metric else "mse"
    stage, mode = ("remedy", None) if side.treated else ("reconstruct", side.mode)
    for run in side.runs:
        L0 = params.runs_by_name()[run].L0
        for step in side.steps_read(L0):
            yield from (Setting(stage, run, method, mode, order, step, error) for method in side.methods)
        if side.measure == "kept":
            yield Setting(stage, run, params.task.NULL, mode, order, L0, error)


def image_error_frames(params: Params, folders: list[RunFolder]) -> dict[str, pl.DataFrame]:
    """Both frames by name, of the settings that were read.

    Raises:
        CollectError: trainings were read on different images.
    """
    wanted, parts = settings_of(params), []
    images: dict[str, list[int]] = {}
    for folder in folders:
        for (stage, error), settings in _grouped(wanted, folder.run).items():
            found = _errors_of(folder.path / STAGES[stage], settings, error)
            for here in found["images"].to_list():
                if images.setdefault(stage, here) != here:
                    raise CollectError(
                        f"{folder.run} seed {folder.seed}: `lgmamba {stage}` read other images than of the trainings before it"
                    )
            named = {"stage": stage, "run": folder.run, "seed": folder.seed, "error": error}
            parts.append(found.with_columns(pl.lit(value).alias(name) for name, value in named.items()))
    return {"image_errors": errors_frame(parts), "image_errors_of": images_frame(images)}


def errors_frame(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """One row for each training and setting that a primary contrast is about; kept for readers, no figure or report needs it.

    Columns: stage (reconstruct: read as it is, or remedy), run, seed, method (of curves, or the remedy of remedies_levels), mode, order, step,
    error (mse: that of the task's own level, or error_rate: of accuracy), n_images (that the level in these frames is a mean over), errors
    (of the first n_images of them, at most 1,000: image by image in the order of `image_errors_of`, the mean over an image's
    sequences).

    The level of their mean is the level of the training. Where all images are among them and each was read in one sequence, it is
    exactly that of `curves` and `remedies_levels`; with several sequences an image's mean is rounded, by 1.2e-4 of it at most (12 binary
    digits behind the leading one; float16 has 10), 0.0005 dB; with more images than these it is an estimate.
    """
    schema: dict[str, Any] = {
        "stage": pl.String,
        "run": pl.String,
        "seed": pl.Int64,
        **dict.fromkeys(("method", "mode", "order"), pl.String),
    }
    schema |= {"step": pl.Int64, "error": pl.String, "n_images": pl.Int64, "errors": pl.List(pl.Float32)}
    rows = [part.select(pl.col(name).cast(kind) for name, kind in schema.items()) for part in parts]
    return pl.concat([pl.DataFrame(schema=schema), *rows])


def images_frame(images: dict[str, list[int]]) -> pl.DataFrame:
    """Which images `image_errors` is about: stage, place (in the lists there), image (row of the image artefact, lgmamba.data.artefact).

    They are the first rows of a split, which stand in the order of a hash of the image id: a random sample, the same in every run.
    """
    rows = [(stage, place, image) for stage, rows in images.items() for place, image in enumerate(rows)]
    return pl.DataFrame(rows, {"stage": pl.String, "place": pl.Int64, "image": pl.Int64}, orient="row")


def _grouped(wanted: frozenset[Setting], run: str) -> dict[tuple[str, str], list[Setting]]:
    found: dict[tuple[str, str], list[Setting]] = {}
    for setting in sorted(wanted, key=lambda s: tuple(map(str, astuple(s)))):
        if setting.run == run:
            found.setdefault((setting.stage, setting.error), []).append(setting)
    return found


def _errors_of(path: Path, settings: list[Setting], error: str) -> pl.DataFrame:
    """KEYS, n_images, errors, images of the settings of one training, those that are there; sorted."""
    rows = pl.scan_parquet(path)
    columns = rows.collect_schema()
    if error not in columns:
        return pl.DataFrame(schema={name: pl.Null for name in (*KEYS, "n_images", "errors", "images")})
    rows = rows.rename({"remedy": "method"}) if "remedy" in columns else rows
    names = [
        name for name in KEYS if settings[0].mode is not None or name != "mode"
    ]  # a remedy is read in its own mode
    asked = pl.LazyFrame([{name: getattr(setting, name) for name in names} for setting in settings])
    asked = asked.select(pl.col(name).cast(columns.get(name, pl.String)) for name in names)
    of_images = (
        rows.filter(*(pl.col(name).is_in(sorted({getattr(s, name) for s in settings})) for name in names))
        .join(asked, on=names, how="semi")
        .drop_nulls(error)
        .group_by(*KEYS, "image")
        .agg(pl.col(error).cast(pl.Float64).mean())
        .collect(engine=ENGINE)
        .sort(*KEYS, "image")
    )
    rounded = of_images.with_columns(pl.Series(error, shortened(of_images[error].to_numpy())))
    return rounded.group_by(KEYS, maintain_order=True).agg(
        n_images=pl.len(), errors=pl.col(error).head(SAMPLE), images=pl.col("image").head(SAMPLE)
    )


def shortened(values: np.ndarray) -> np.ndarray:
    """To the nearest float32 with DIGITS binary digits behind the leading one; what has no more of them stays."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(mantissa, DIGITS + 1)), exponent - DIGITS - 1).astype(np.float32)

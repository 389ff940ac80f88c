"""What classification against reconstruction costs a sequence model, beside encoders that see the whole image at once.

From kept frames alone: of a study whose runs differ in the weight of classification (`lgmamba.analysis.exchange`), and of a trade-off
study. Both are read at the weights that all of them have, so that no frontier has more points than another.

A is the area of the mean frontier, with the jackknife's interval over trainings, as in `lgmamba.analysis.exchange`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from lgmamba.analysis.exchange import area_of_means
from lgmamba.analysis.frontier import conflict_gaps
from lgmamba.analysis.statistics import effect_of, jackknife, welch
from lgmamba.config.base import ConfigError
from lgmamba.config.data import DataConfig
from lgmamba.config.files import read_config
from lgmamba.config.study import Params
from lgmamba.report.classes import contrast_units
from lgmamba.report.contrasts import contrast_context
from lgmamba.report.wording import number, signed
from lgmamba.tradeoff.config import TradeoffParams

NUMBERS = ("gap_r", "gap_c", "area")


@dataclass(frozen=True)
class Frontier:
    """Points of one kind of encoder.

    Attributes:
        name: what it is called.
        latent: m.
        images: what it was trained on, in words.
        mse, accuracy: (S, W) of S trainings at W ascending weights; accuracy in percent.
        nothing: squared error of the mean image, accuracy (%) of the commonest class.
    """

    name: str
    latent: int
    images: str
    weights: tuple[float, ...]
    mse: np.ndarray
    accuracy: np.ndarray
    nothing: tuple[float, float]

    def at(self, weights: Sequence[float]) -> "Frontier":
        """The same at some of its weights."""
        chosen = [self.weights.index(w) for w in weights]
        return replace(self, weights=tuple(weights), mse=self.mse[:, chosen], accuracy=self.accuracy[:, chosen])

    def values(self) -> dict[str, np.ndarray]:
        """Number -> (S,), one for each training; of A the jackknife's."""
        gaps = np.array([conflict_gaps(m, a, *self.nothing) for m, a in zip(self.mse, self.accuracy, strict=True)])
        return {"gap_r": gaps[:, 0], "gap_c": gaps[:, 1], "area": jackknife(area_of_means, self.mse, self.accuracy)}


def sequence_frontiers(frames: Path) -> list[Frontier]:
    """Those of a study of sequence models, at L0; one for each group of runs that differ in the weight alone.

    Args:
        frames: kept frames.
    Raises:
        ConfigError: no runs of the study do.
    """
    if not (frames / "exchange.parquet").is_file():
        raise ConfigError(
            f"{frames}: expected exchange.parquet, of a study whose runs differ in train.class_weight alone"
        )
    params, curves = read_config(frames / "study.json", Params), pl.read_parquet(frames / "curves.parquet")
    runs, here = params.runs_by_name(), curves.filter(mode="prefix", order=params.evaluation.orders[0])
    found = []
    for row in pl.read_parquet(frames / "exchange.parquet").iter_rows(named=True):
        at_L0 = here.filter(step=row["L0"], method="model")
        points = [at_L0.filter(run=run).sort("seed") for run in row["runs"]]
        nothing = here.filter(step=row["L0"], method=params.task.NULL, run=row["run"])
        found.append(
            Frontier(
                "sequence model",
                runs[row["run"]].model.latent or runs[row["run"]].model.d_model,
                _images(params.data),
                tuple(row["weights"]),
                np.stack([p["mse"].to_numpy() for p in points], 1),
                np.stack([p["accuracy"].to_numpy() for p in points], 1),
                (_mean(nothing["mse"]), _mean(nothing["accuracy"])),
            )
        )
    return found


def encoder_frontiers(frames: Path) -> list[Frontier]:
    """Those of a trade-off study, one for each encoder and latent size.

    Args:
        frames: kept frames.
    """
    params, points = read_config(frames / "study.json", TradeoffParams), pl.read_parquet(frames / "points.parquet")
    about = {row["stack"]: row for row in pl.read_parquet(frames / "stacks.parquet").iter_rows(named=True)}
    found = []
    for (stack,), rows in points.filter(variant="main").group_by("stack", maintain_order=True):
        rows = rows.sort("seed", "weight")
        weights = rows["weight"].unique().sort().to_list()
        mse, accuracy = (rows[name].to_numpy().reshape(-1, len(weights)) for name in ("mse", "accuracy"))
        nothing = (about[stack]["mse_mean_image"], about[stack]["chance"])
        name = rows["encoder"][0].replace("_", " ")
        found.append(Frontier(name, rows["latent"][0], _images(params.data), tuple(weights), mse, accuracy, nothing))
    return found


def _mean(values: pl.Series) -> float:
    return float(values.to_numpy().mean())


def _images(data: DataConfig) -> str:
    size = "" if data.size is None else ", {} x {}".format(*data.size)
    return f"{data.source.kind}{size}"


def beside_frame(sequences: Sequence[Frontier], encoders: Sequence[Frontier], level: float) -> pl.DataFrame:
    """One row for each frontier: name, latent, images, weights (those that all have), n_seeds -> gap_r, gap_c, area with Student's
    interval over trainings, null where undefined; of an encoder also more: area of the first sequence model minus its own, with
    Welch's interval, since trainings of two studies are no pairs.

    Raises:
        ConfigError: they have less than three weights in common.
    """
    every = [*sequences, *encoders]
    common = sorted(set.intersection(*(set(f.weights) for f in every)))
    if len(common) < 3:
        raise ConfigError(f"weights in common: found {common}, expected 0, 1 and at least one between, in all studies")
    rows, first = [], sequences[0].at(common).values()["area"]
    for k, frontier in enumerate(f.at(common) for f in every):
        row = {"name": frontier.name, "latent": frontier.latent, "images": frontier.images, "weights": common}
        row["n_seeds"] = len(frontier.mse)
        for name, values in frontier.values().items():
            effect = effect_of(values.tolist(), level)
            numbers = {"": effect.effect, "_lo": effect.lo, "_hi": effect.hi}
            row |= {f"{name}{end}": None if np.isnan(value) else value for end, value in numbers.items()}
        more = welch(first, frontier.values()["area"], level) if k >= len(sequences) else [np.nan] * 3
        row |= {f"more{end}": None if np.isnan(v) else v for end, v in zip(("", "_lo", "_hi"), more, strict=True)}
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def beside_table(frame: pl.DataFrame) -> str:
    """Markdown of `beside_frame`."""
    heads = ("encoder", "m", "images", "trainings", "G_r", "G_c", "A", "A of the sequence model minus it")
    lines = [f"| {' | '.join(heads)} |", "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |"]
    for row in frame.iter_rows(named=True):
        numbers = [spread(row, name) for name in NUMBERS] + [spread(row, "more", signed, "")]
        cells = [row["name"], row["latent"], row["images"], row["n_seeds"], *numbers]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def spread(row: dict, name: str, written: Callable[..., str] = number, missing: str = "undefined") -> str:
    """A number with its interval, in words for a table."""
    if row[name] is None:
        return missing
    lo, hi = (row[f"{name}{end}"] for end in ("_lo", "_hi"))
    return written(row[name], 2) + ("" if lo is None else f" [{written(lo, 2)}, {written(hi, 2)}]")


def answers_table(folders: Sequence[Path]) -> str:
    """Markdown of the primary contrasts of studies that ask the same: one row for each name, one column for each study.

    Args:
        folders: kept frames.
    """
    found: dict[str, dict[str, str]] = {}
    studies = []
    for folder in folders:
        params = read_config(folder / "study.json", Params)
        studies.append(params.study)
        units = contrast_units(params) or params.task.METRICS[0].difference_unit
        contrasts = pl.read_parquet(folder / "contrasts.parquet")
        for row in contrast_context(contrasts, params.claims.fixed, units)["rows"]:
            found.setdefault(row["name"], {"claim": row["claim"]})[params.study] = row["sentence"]
    lines = [
        f"| | claim | {' | '.join(f'`{study}`' for study in studies)} |",
        f"| --- | --- |{' --- |' * len(studies)}",
    ]
    for name, row in found.items():
        cells = [name, row["claim"], *(row.get(study, "not asked") for study in studies)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"

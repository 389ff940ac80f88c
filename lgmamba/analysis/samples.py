"""Per-image errors of every training in one matrix, so that everything that is compared is paired."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from lgmamba.analysis.collect import CollectError, RunFolder
from lgmamba.analysis.files import ENGINE

MODEL, NULL = "model", "null"
"""Methods: what the model predicts, and what the baseline does that knows nothing of a sequence (`TaskBase.NULL`)."""


@dataclass(frozen=True)
class Samples:
    """Headline reconstructions: prefix mode, first visiting order of the evaluation.

    Attributes:
        images: (I,) rows of the image artefact, ascending.
        mse: (I, K) mean squared error of each image on [0, 1] pixels, mean over its visiting orders.
        columns: {(run, seed, method, step): column of mse}. The null baseline does not depend on the step and
            has the one step 0.
        seeds: those that all runs have, in the order of params.yaml. What is paired by seed over many runs is of these; a
            run's `more_seeds` count in the primary contrasts and in the curves.
    """

    images: np.ndarray
    mse: np.ndarray
    columns: dict[tuple[str, int, str, int], int]
    seeds: tuple[int, ...]

    def of(self, run: str, step: int, method: str = MODEL) -> list[int] | None:
        """Columns of one setting, seed by seed; None where the run was not read at this step."""
        found = [self.columns.get((run, seed, method, step)) for seed in self.seeds]
        known = [column for column in found if column is not None]
        return known if len(known) == len(found) else None

    def at(self, run: str, step: int) -> list[int]:
        """Columns of a setting that every training was read in."""
        found = self.of(run, step)
        if found is None:
            raise ValueError(f"run {run!r} was not read at {step} steps with every one of the seeds {self.seeds}")
        return found

    def steps(self, run: str, method: str = MODEL) -> list[int]:
        """Steps at which a run was read, ascending."""
        return sorted({step for name, _, kind, step in self.columns if name == run and kind == method})


def load_samples(
    folders: list[RunFolder], order: str, null: str, methods: tuple[str, ...] = (MODEL,), error: str = "mse"
) -> Samples:
    """Read steps.parquet of every training, one file at a time.

    Args:
        folders: the study's trainings.
        order: visiting order of the rows that are used.
        null: name of the baseline that knows nothing, in the frames.
        methods: which predictions besides it.
        error: column of the error; `Samples.mse` holds it, whatever it is.
    Raises:
        CollectError: runs were reconstructed on different images.
    """
    blocks: list[np.ndarray] = []
    columns: dict[tuple[str, int, str, int], int] = {}
    images = None
    for folder in folders:
        frame = (
            pl.scan_parquet(folder.path / "evaluation/steps.parquet")
            .filter(pl.col("mode") == "prefix", pl.col("order") == order, pl.col("method").is_in([*methods, null]))
            .with_columns(pl.when(pl.col("method") == null).then(0).otherwise("step").alias("step"))
            .group_by("method", "step", "image")
            .agg(pl.col(error).cast(pl.Float64).mean().alias("mse"))
            .collect(engine=ENGINE)
            .sort("method", "step", "image")
        )
        if frame.is_empty():
            raise CollectError(
                f"{folder.run} seed {folder.seed}: steps.parquet has no row of mode prefix, order {order}"
            )
        settings, block, images = image_block(frame, ("method", "step"), folder, folders[0], images)
        for method, step in settings:
            columns[folder.run, folder.seed, NULL if method == null else method, step] = len(columns)
        blocks.append(block)
    assert images is not None  # a study has trainings
    return Samples(images, np.concatenate(blocks, axis=1), columns, shared_seeds(folders))


def shared_seeds(folders: list[RunFolder]) -> tuple[int, ...]:
    """Seeds that every run among the folders has, in their order."""
    of_run: dict[str, set[int]] = {}
    for folder in folders:
        of_run.setdefault(folder.run, set()).add(folder.seed)
    return tuple(dict.fromkeys(f.seed for f in folders if all(f.seed in seeds for seeds in of_run.values())))


def image_block(
    frame: pl.DataFrame, keys: tuple[str, ...], folder: RunFolder, first: RunFolder, images: np.ndarray | None
) -> tuple[list[tuple], np.ndarray, np.ndarray]:
    """The errors of one training, image by image.

    Args:
        frame: keys, image, mse; sorted by keys (method, remedy, ... and step), then image.
        keys: columns that name a setting.
        folder, first: whose errors they are, and who was read before.
        images: rows of the image artefact that `first` was measured on; None for `first` itself.
    Returns:
        settings, (I, settings) mean squared errors, images.
    Raises:
        CollectError: other images than `first`, or an error that is no number.
    """
    settings = frame.select(keys).unique(maintain_order=True).rows()
    here = frame["image"].unique().sort().to_numpy()
    if not np.array_equal(here, here if images is None else images) or len(frame) != len(settings) * len(here):
        raise CollectError(
            f"{folder.run} seed {folder.seed}: reconstructed other images than {first.run} seed {first.seed}"
        )
    wrong = frame.filter(~pl.col("mse").is_finite() | (pl.col("mse") < 0))
    if len(wrong):
        row = wrong.row(0, named=True)
        where = ", ".join(str(row[key]) for key in keys if key != "step")
        raise CollectError(
            f"{folder.run} seed {folder.seed}: the error of {len(wrong)} reconstructions is no number >= 0, "
            f"the first that of image {row['image']} at step {row['step']} ({where}): {row['mse']}"
        )
    return settings, frame["mse"].to_numpy().reshape(len(settings), len(here)).T, here

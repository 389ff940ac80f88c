"""Per-image errors of every training in one matrix, so that everything that is compared is paired."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from lgmamba.analysis.collect import CollectError, RunFolder

MODEL, MEAN_IMAGE = "model", "mean_image"


@dataclass(frozen=True)
class Samples:
    """Headline reconstructions: prefix mode, first visiting order of the probe.

    Attributes:
        images: (I,) rows of the image artefact, ascending.
        mse: (I, K) mean squared error of each image on [0, 1] pixels, mean over its visiting orders.
        columns: {(run, seed, method, step): column of mse}. A method that does not depend on the step (mean_image)
            has the one step 0.
        seeds: in the order of params.yaml.
    """

    images: np.ndarray
    mse: np.ndarray
    columns: dict[tuple[str, int, str, int], int]
    seeds: tuple[int, ...]

    def of(self, run: str, step: int, method: str = MODEL) -> list[int] | None:
        """Columns of one setting, seed by seed; None where the run was not probed at this step."""
        found = [self.columns.get((run, seed, method, step)) for seed in self.seeds]
        return None if None in found else found

    def steps(self, run: str, method: str = MODEL) -> list[int]:
        """Steps at which a run was probed, ascending."""
        return sorted({step for name, _, kind, step in self.columns if name == run and kind == method})


def load_samples(folders: list[RunFolder], order: str, methods: tuple[str, ...] = (MODEL,)) -> Samples:
    """Read steps.parquet of every training, one file at a time.

    Args:
        folders: the study's trainings.
        order: visiting order of the rows that are used.
        methods: which reconstructions, besides the mean image.
    Raises:
        CollectError: runs were reconstructed on different images.
    """
    blocks, columns, images = [], {}, None
    for folder in folders:
        frame = (
            pl.scan_parquet(folder.path / "probe/steps.parquet")
            .filter(
                pl.col("mode") == "prefix", pl.col("order") == order, pl.col("method").is_in([*methods, MEAN_IMAGE])
            )
            .with_columns(pl.when(pl.col("method") == MEAN_IMAGE).then(0).otherwise("step").alias("step"))
            .group_by("method", "step", "image")
            .agg(pl.col("mse").cast(pl.Float64).mean())
            .collect(engine="streaming")
            .sort("method", "step", "image")
        )
        settings = frame.select("method", "step").unique(maintain_order=True).rows()
        here = frame["image"].unique().sort().to_numpy()
        if not settings:
            raise CollectError(
                f"{folder.run} seed {folder.seed}: steps.parquet has no row of mode prefix, order {order}"
            )
        if images is None:
            images = here
        if not np.array_equal(here, images) or len(frame) != len(settings) * len(here):
            raise CollectError(
                f"{folder.run} seed {folder.seed}: reconstructed other images than {folders[0].run} seed {folders[0].seed}"
            )
        wrong = frame.filter(~pl.col("mse").is_finite() | (pl.col("mse") < 0))
        if len(wrong):
            first = wrong.row(0, named=True)
            raise CollectError(
                f"{folder.run} seed {folder.seed}: the error of {len(wrong)} reconstructions is no number >= 0, "
                f"the first that of image {first['image']} at step {first['step']} ({first['method']}): {first['mse']}"
            )
        for method, step in settings:
            columns[folder.run, folder.seed, method, step] = len(columns)
        blocks.append(frame["mse"].to_numpy().reshape(len(settings), len(here)).T)
    seeds = tuple(dict.fromkeys(folder.seed for folder in folders))
    return Samples(images, np.concatenate(blocks, axis=1), columns, seeds)

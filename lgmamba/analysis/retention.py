"""What the retention maps say in numbers: how the error of a cell grows with the time since it was last read.

A retention map is a function (t, age) -> mean squared error at step t of the pixels of cells last visited `age` steps
ago; age 0 = read at this very step, -1 = never read.
"""

import itertools
import math

import numpy as np
import polars as pl

from lgmamba.analysis.collect import RunFolder

Maps = dict[tuple[str, int], pl.DataFrame]


def load_maps(folders: list[RunFolder], order: str) -> Maps:
    """{(run, seed): frame with step, age, mse, count} of the headline reconstructions (prefix mode, the model itself)."""
    return {
        (folder.run, folder.seed): pl.scan_parquet(folder.path / "probe/retention.parquet")
        .filter(mode="prefix", order=order, method="model")
        .select("step", "age", "mse", "count")
        .collect()
        for folder in folders
    }


def slope(retention: pl.DataFrame, step: int) -> float:
    """Least-squares slope of the error with log2(1 + age) over the visited cells at one step, each cell weighing the same.

    Returns:
        mean squared error per doubling of 1 + age, pixel value^2; nan where fewer than three ages exist.
    """
    cells = retention.filter(pl.col("step") == step, pl.col("age") >= 0, pl.col("count") > 0)
    if len(cells) < 3:
        return math.nan
    x, y, w = np.log2(1 + cells["age"].to_numpy()), cells["mse"].to_numpy(), cells["count"].to_numpy()
    x = x - np.average(x, weights=w)
    return float((w * x * y).sum() / (w * x * x).sum())


def distance(a: pl.DataFrame, b: pl.DataFrame, last: int) -> float:
    """Root mean square difference of two maps on the (t, age) cells that both have, t <= last.

    Every step weighs the same; inside a step every image cell does.

    Returns:
        pixel value^2 (it is a difference of mean squared errors); nan without common cells.
    """
    both = a.filter(pl.col("step") <= last).join(b, on=["step", "age"], suffix="_b").filter(pl.col("count") > 0)
    if both.is_empty():
        return math.nan
    weight = pl.col("count") / pl.col("count").sum().over("step") / both["step"].n_unique()
    squared = both.select((weight * (pl.col("mse") - pl.col("mse_b")) ** 2).sum()).item()
    return math.sqrt(squared)


def distance_beyond_seeds(maps: Maps, run_a: str, run_b: str, seeds: tuple[int, ...], last: int) -> np.ndarray:
    """How much further apart the maps of two runs are than those of two seeds of one run.

    For each seed s: mean distance from run a's map with seed s to all maps of run b, minus the mean distance from a's map with
    seed s to a's other maps and from b's map with seed s to b's others.

    Returns:
        (S,) pixel value^2; nan for a single seed.
    """

    def between(first: str, s: int, second: str, others: list[int]) -> list[float]:
        return [distance(maps[first, s], maps[second, o], last) for o in others]

    result = []
    for s in seeds:
        others = [o for o in seeds if o != s]
        apart = np.mean(between(run_a, s, run_b, list(seeds)))
        same = list(itertools.chain(between(run_a, s, run_a, others), between(run_b, s, run_b, others)))
        result.append(apart - np.mean(same) if same else math.nan)
    return np.array(result)

"""What trainings reach on the held-out images, in their own MLflow runs, so that MLflow's Compare compares results."""

from pathlib import Path

from lgmamba.config.study import Params
from lgmamba.metrics import ACCURACY
from lgmamba.track import store as stores
from lgmamba.track.tracker import find_run


def log_levels(store: Path, params: Params, frames: Path) -> int:
    """Give every training that the store knows its levels: test_psnr/at_L0, /at_2_L0, ... and test_psnr with T as the step.

    Of those that name a class also test_accuracy (%). The split and the level have the names that the study gives them. Values that a
    run has already are written again only where they changed.

    Args:
        store: folder of the MLflow store.
        params: the study.
        frames: folder written by `evaluate`.
    Returns:
        how many trainings were found.
    """
    import polars as pl

    mlflow, found = stores.client(store), 0
    names = {"psnr": params.task.METRICS[0].level, ACCURACY.level: ACCURACY.level}
    curves = pl.read_parquet(frames / "curves.parquet").filter(
        mode="prefix", method="model", order=params.evaluation.orders[0]
    )
    checkpoints = pl.read_parquet(frames / "runs.parquet").select("run", "seed", "checkpoint_digest").rows()
    for run, seed, checkpoint in checkpoints:
        config = params.run_configs()[run, seed]
        run_id = find_run(mlflow, store, config, "result_digest", checkpoint)
        if run_id is None:
            continue
        found += 1
        factors = {1: "L0"} | {factor: f"{factor:g}_L0" for factor in params.claims.far_length_ratios}
        own = curves.filter(run=run, seed=seed).sort("step")
        values: dict[tuple[str, int], float] = {}
        for column in (column for column in names if column in own.columns):
            name = f"{params.evaluation.split}_{names[column]}"
            levels = dict(own.drop_nulls(column).select("step", column).rows())
            values |= {(name, step): level for step, level in levels.items()}
            values |= {
                (f"{name}/at_{words}", 0): levels[step]
                for factor, words in factors.items()
                if (step := round(factor * config.L0)) in levels
            }
        _write(mlflow, run_id, values)
    return found


def _write(mlflow, run_id: str, values: dict[tuple[str, int], float]) -> None:
    from mlflow.entities import Metric

    there = {
        (name, metric.step): metric.value
        for name in {name for name, _ in values}
        for metric in mlflow.get_metric_history(run_id, name)
    }
    new = [Metric(name, value, 0, step) for (name, step), value in values.items() if there.get((name, step)) != value]
    stores.log_metrics(mlflow, run_id, new)

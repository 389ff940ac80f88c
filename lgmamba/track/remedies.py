"""The remedies tried on one trained run, as one MLflow run: level of each by length, and what it cost."""

import json
import logging
from importlib.util import find_spec
from pathlib import Path

from lgmamba.config.run import RunConfig
from lgmamba.extras import install
from lgmamba.track import store as stores

log = logging.getLogger(__name__)


def track_remedies(store: Path | None, run: RunConfig, out: Path) -> None:
    """Record what `lgmamba remedy` wrote; nothing that goes wrong here matters to the results.

    Args:
        store: folder of the MLflow store, or None for no tracking.
        run: the trained run.
        out: folder with remedies.json and steps.parquet.
    """
    if store is None:
        return
    if find_spec("mlflow") is None:
        log.warning("MLflow is not installed: nothing is tracked; %s", install("mlflow"))
        return
    try:
        log_remedies(store, run, out)
    except Exception as e:  # whatever MLflow, SQLAlchemy or the disk raise
        log.warning("MLflow tracking of the remedies of %s failed (%s: %s)", run.run, type(e).__name__, e)


def log_remedies(store: Path, run: RunConfig, out: Path) -> str:
    """<level>/<order>/<remedy>, such as psnr/..., with T as the step; replaces an older run of the same training's remedies. Returns its id."""
    import polars as pl
    from mlflow.entities import Metric

    about = json.loads((out / "remedies.json").read_text(encoding="utf-8"))
    mlflow = stores.client(store)
    experiment = stores.experiment_id(mlflow, run.study, store)
    which = {"study": run.study, "run": run.run, "seed": str(run.seed), "stage": "remedy"}
    same = " and ".join(f"tags.{key} = '{value}'" for key, value in which.items())
    for old in mlflow.search_runs([experiment], same):
        mlflow.delete_run(old.info.run_id)
    digests = {key: about[key] for key in ("data_digest", "checkpoint_digest", "code_digest")}
    created = mlflow.create_run(experiment, run_name=f"{run.run}-seed{run.seed}-remedies", tags=which | digests)
    run_id = created.info.run_id
    words = {row["name"]: row["words"] for row in about["remedies"]}
    stores.log_params(
        mlflow, run_id, {"L0": about["L0"], "remedy_evaluation": about["remedy_evaluation"], "remedy": words}
    )
    level = run.task.METRICS[0]
    means = pl.read_parquet(out / "steps.parquet").group_by("order", "remedy", "step")
    metrics = [
        Metric(f"{level.level}/{order}/{remedy}", float(level.of_mean(mse)), 0, step)
        for order, remedy, step, mse in means.agg(pl.col("mse").cast(pl.Float64).mean()).sort("step").iter_rows()
    ]
    seconds = {
        row["name"]: row["read_s"] + (row["calibration"] or {"seconds": 0.0})["seconds"] for row in about["remedies"]
    }
    metrics += [Metric(f"seconds/{name}", value, 0, 0) for name, value in seconds.items()]
    stores.log_metrics(mlflow, run_id, metrics)
    mlflow.log_artifact(run_id, str(out / "remedies.json"))
    mlflow.set_terminated(run_id, "FINISHED")
    return run_id

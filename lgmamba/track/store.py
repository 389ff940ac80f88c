"""The MLflow store of this project: one SQLite file and one folder of artefacts, inside the repository, ignored by git.

<store>/mlflow.db      experiments, runs, parameters, metrics, tags
<store>/artifacts/     <experiment>/<run id>/artifacts/...
"""

import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from lgmamba.config.differences import flatten

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

BATCH = 1000
"""Metric values MLflow takes in one call."""
PARAMS_BATCH = 100
"""Parameters and tags MLflow takes in one call."""


def quiet_mlflow() -> None:
    """Import mlflow such that it reports its use to nobody, and does not talk about making its tables."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.store.db.utils  # noqa: F401  (sets the levels of its loggers, which are then ours to change)

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)


def client(store: Path) -> "MlflowClient":
    """A client of the store, which is made if need be."""
    make(store)
    quiet_mlflow()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri(store / "mlflow.db"))


def uri(database: Path) -> str:
    return f"sqlite:///{database.resolve()}"


def make(store: Path) -> None:
    """Make the store, or do nothing if it is there; if the repository was moved, let it follow.

    Two processes that make one database at once would leave it broken for good: hence a lock, and a temporary name
    until it is complete.
    """
    store.mkdir(parents=True, exist_ok=True)
    database = store / "mlflow.db"
    with FileLock(store / ".lock"):
        if not database.is_file():
            part = store / "mlflow.part.db"
            part.unlink(missing_ok=True)
            _create(part)
            part.rename(database)
            _execute(database, "PRAGMA journal_mode=WAL")  # readers and writers stop waiting for each other
        _follow(database, (store / "artifacts").resolve())


def experiment_id(mlflow: "MlflowClient", name: str, store: Path) -> str:
    """The experiment of this name, made if need be; one that was deleted by hand is brought back."""
    from mlflow.exceptions import MlflowException

    found = mlflow.get_experiment_by_name(name)
    if found is None:
        try:
            return mlflow.create_experiment(name, artifact_location=str((store / "artifacts" / name).resolve()))
        except MlflowException:  # another process was quicker
            found = mlflow.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        mlflow.restore_experiment(found.experiment_id)
    return found.experiment_id


def log_metrics(mlflow: "MlflowClient", run_id: str, metrics: "Iterable[Metric]") -> None:
    """Any number of metric values, in as few calls as MLflow allows."""
    metrics = list(metrics)
    for i in range(0, len(metrics), BATCH):
        mlflow.log_batch(run_id, metrics=metrics[i : i + BATCH])


def log_params(mlflow: "MlflowClient", run_id: str, values: dict[str, Any]) -> None:
    """Nested values as flat parameters: {"model": {"d_model": 64}} -> model.d_model = 64."""
    from mlflow.entities import Param

    params = [Param(key, str(value)) for key, value in flatten(values).items()]
    for i in range(0, len(params), PARAMS_BATCH):
        mlflow.log_batch(run_id, params=params[i : i + PARAMS_BATCH])


def _create(database: Path) -> None:
    quiet_mlflow()
    from mlflow.tracking import MlflowClient

    MlflowClient(tracking_uri=uri(database)).search_experiments()


def _follow(database: Path, artifacts: Path) -> None:
    """MLflow stores absolute paths of artefacts. Rewrite those that do not lie where the store lies now."""
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        rows = connection.execute("SELECT experiment_id, name, artifact_location FROM experiments").fetchall()
        for experiment, name, old in rows:
            new = str(artifacts / name)
            if old != new:
                connection.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new, experiment)
                )
                connection.execute(
                    "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                    (new, len(old) + 1, experiment, len(old), old),
                )


def _execute(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        connection.execute(statement)

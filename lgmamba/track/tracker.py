"""The tracker that a training talks to. See `lgmamba.track`."""

import logging
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from lgmamba.config.run import RunConfig
from lgmamba.extras import install
from lgmamba.files import file_digest
from lgmamba.track import store as stores

log = logging.getLogger(__name__)

ARTEFACTS = ("run.json", "train.json", "history.parquet", "model.safetensors")
FLUSH_S = 10.0
"""Seconds that a value may wait in memory before it is written."""
SYSTEM_S = 10.0
"""Seconds between two samples of the process's memory and processor use."""


class Tracker(Protocol):
    """What a training tells about itself."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Values at a training step."""

    def finish(self, train_dir: Path) -> None:
        """The training ended well; its files lie in `train_dir`."""

    def fail(self, reason: str) -> None:
        """The training ended badly. It may be resumed, and is then tracked as the same run."""

    def stop(self) -> None:
        """Somebody ended the training. It may be resumed, and is then tracked as the same run."""


class NullTracker:
    """Tracks nothing."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        pass

    def finish(self, train_dir: Path) -> None:
        pass

    def fail(self, reason: str) -> None:
        pass

    def stop(self) -> None:
        pass


def open_tracker(store: Path | None, run: RunConfig, tags: dict[str, str]) -> Tracker:
    """The tracker of one training.

    Args:
        store: folder of the MLflow store, or None for no tracking.
        run: what is trained.
        tags: what to find the run by; a training with the same `key_digest` goes on in the run that it has already.
    """
    if store is None:
        return NullTracker()
    if find_spec("mlflow") is None:
        log.warning(
            "MLflow is not installed: nothing is tracked; %s. `lgmamba track import` adds the run afterwards.",
            install("mlflow"),
        )
        return NullTracker()
    return MlflowTracker(store, run, tags)


class MlflowTracker:
    """One MLflow run for one training. Values are buffered; every method survives a store that fails."""

    def __init__(self, store: Path, run: RunConfig, tags: dict[str, str]):
        self._store, self._config, self._tags = store, run, tags
        self._values: list[tuple[str, float, int, int]] = []  # key, value, step, time stamp in ms
        self._known: dict[str, int] = {}  # key -> last step that the store had when it was opened
        self._flushed = time.monotonic()
        self._sampled = -SYSTEM_S
        self._working = True
        self._guard(self._open)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        if time.monotonic() - self._sampled >= SYSTEM_S:
            self._sampled = time.monotonic()
            metrics = metrics | system_metrics()
        self._values += [(key, float(value), step, now) for key, value in metrics.items()]
        if len(self._values) >= stores.BATCH or time.monotonic() - self._flushed >= FLUSH_S:
            self._guard(self._flush)

    def finish(self, train_dir: Path) -> None:
        self._working = (
            True  # a store that failed for a moment gets a second chance: this writes everything that it lacks
        )
        self._guard(self._finish, train_dir)

    def fail(self, reason: str) -> None:
        self._guard(self._end, "FAILED", reason)

    def stop(self) -> None:
        self._guard(self._end, "KILLED")

    def _guard(self, action, *args) -> None:
        if not self._working:
            self._values.clear()
            return
        try:
            action(*args)
        except Exception as e:  # whatever MLflow, SQLAlchemy or the disk raise: the training matters more
            self._working = False
            log.warning(
                "MLflow tracking of %s seed %d stopped, the training goes on (%s: %s). `lgmamba track import` adds the run afterwards.",
                self._config.run,
                self._config.seed,
                type(e).__name__,
                e,
            )

    def _open(self) -> None:
        self._client = stores.client(self._store)
        run_id = find_run(self._client, self._store, self._config, "key_digest", self._tags["key_digest"])
        if run_id is None:
            self._run_id = create_run(self._client, self._store, self._config, self._tags)
        else:
            self._run_id = run_id
            self._client.update_run(run_id, status="RUNNING")
            self._known = {key: self._last_step(key) for key in self._client.get_run(run_id).data.metrics}

    def _last_step(self, key: str) -> int:
        return max(m.step for m in self._client.get_metric_history(self._run_id, key))

    def _flush(self) -> None:
        from mlflow.entities import Metric

        # A resumed training repeats the steps since its checkpoint; what the store has already is not written twice.
        new = [v for v in self._values if v[2] > self._known.get(v[0], -1)]
        self._values.clear()
        self._flushed = time.monotonic()
        stores.log_metrics(
            self._client, self._run_id, [Metric(key, value, stamp, step) for key, value, step, stamp in new]
        )

    def _finish(self, train_dir: Path) -> None:
        if not hasattr(self, "_run_id"):
            self._open()
        self._flush()
        publish(self._client, self._run_id, train_dir)

    def _end(self, status: str, reason: str | None = None) -> None:
        self._flush()
        if reason is not None:
            self._client.set_tag(self._run_id, "failure", reason[:4000])
        self._client.set_terminated(self._run_id, status)


def find_run(mlflow: Any, store: Path, run: RunConfig, tag: str, digest: str) -> str | None:
    """Id of the study's MLflow run of a training that has this digest; None where there is none."""
    experiment = stores.experiment_id(mlflow, run.study, store)
    found = mlflow.search_runs([experiment], f"tags.stage = 'train' and tags.{tag} = '{digest}'", max_results=1)
    return found[0].info.run_id if found else None


def create_run(mlflow: Any, store: Path, run: RunConfig, tags: dict[str, str]) -> str:
    """A new MLflow run for one training: experiment = study, name = run and seed, all parameters. Returns its id."""
    experiment = stores.experiment_id(mlflow, run.study, store)
    names = {"study": run.study, "run": run.run, "seed": str(run.seed), "stage": "train"}
    created = mlflow.create_run(experiment, run_name=f"{run.run}-seed{run.seed}", tags=tags | names)
    stores.log_params(mlflow, created.info.run_id, run.model_dump(mode="json"))
    return created.info.run_id


def publish(mlflow: Any, run_id: str, train_dir: Path) -> None:
    """Bring an MLflow run in line with a finished training's files, and close it.

    Values of the history that the store lacks are added (those in memory at the moment of a kill, or all of them for a
    training that was not tracked while it ran).
    """
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    missing = []
    for key, points in history(train_dir).items():
        there = {m.step for m in mlflow.get_metric_history(run_id, key)}
        missing += [Metric(key, value, now, step) for step, value in points if step not in there]
    stores.log_metrics(mlflow, run_id, missing)
    for name in ARTEFACTS:
        if (train_dir / name).is_file():
            mlflow.log_artifact(run_id, str(train_dir / name))
    mlflow.set_tag(run_id, "result_digest", result_digest(train_dir))
    mlflow.set_terminated(run_id, "FINISHED")


def history(train_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Metric name -> (step, value), from history.parquet (columns step, metric, length, value)."""
    import polars as pl

    path = train_dir / "history.parquet"
    points: dict[str, list[tuple[int, float]]] = {}
    if path.is_file():
        for step, metric, length, value in (
            pl.read_parquet(path).select("step", "metric", "length", "value").iter_rows()
        ):
            if value is not None:
                points.setdefault(metric_name(metric, length), []).append((step, value))
    return points


def metric_name(metric: str, length: int | None = None) -> str:
    """Name in MLflow of a metric of the history; values by sequence length sort by it: val_psnr/length_0016."""
    return metric if length is None else f"{metric}/length_{length:04d}"


def result_digest(train_dir: Path) -> str:
    """What tells one finished training from another: the digest of its checkpoint."""
    return file_digest(train_dir / "model.safetensors")


def system_metrics() -> dict[str, float]:
    """Memory and processor use of this process; the prefix puts them on MLflow's page of system metrics."""
    import psutil

    process = psutil.Process(os.getpid())
    values = {
        "system/process_memory_megabytes": process.memory_info().rss / 2**20,
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_percentage": psutil.virtual_memory().percent,
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        values["system/gpu_0_memory_usage_megabytes"] = torch.cuda.memory_reserved() / 2**20
        values["system/gpu_0_peak_memory_megabytes"] = torch.cuda.max_memory_allocated() / 2**20
    return values

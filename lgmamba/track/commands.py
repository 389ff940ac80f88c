"""What `lgmamba track ...` does: make the store, add runs made elsewhere, add the report and what trainings reach."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from lgmamba.config.differences import flatten
from lgmamba.config.files import TrackingFile, read_config
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params
from lgmamba.extras import install
from lgmamba.keys import track_report_key
from lgmamba.records import Record, find_record, write_record
from lgmamba.track import store as stores
from lgmamba.track.levels import log_levels
from lgmamba.track.tracker import create_run, find_run, publish, result_digest

log = logging.getLogger(__name__)
app = typer.Typer(
    no_args_is_help=True, help="MLflow store: make it, add runs that were trained without it, add the report."
)


@app.command("init")
def init(config: Annotated[Path, typer.Option(help="tracking.json of the study")]) -> None:
    """Make the store, once, before trainings run side by side. Does nothing where tracking is off."""
    store = _store(config)
    if store is not None and _worked(lambda: stores.make(store)):
        typer.echo(f"MLflow store: {store}/mlflow.db")


@app.command("import")
def import_(
    train_dirs: Annotated[list[Path], typer.Argument(help="folders written by `lgmamba train`")],
    store: Annotated[Path, typer.Option(help="folder of the MLflow store")],
) -> None:
    """Add finished trainings to the store; those that it has already are left as they are."""
    for train_dir in train_dirs:
        run_id, new = import_run(store, train_dir)
        typer.echo(f"{train_dir}: {'added as' if new else 'is'} {run_id}")


@app.command("report")
def report(
    config: Annotated[Path, typer.Option(help="tracking.json of the study")],
    study: Annotated[Path, typer.Option(help="study.json")],
    reports: Annotated[Path, typer.Option(help="folder of the report")],
    frames: Annotated[Path | None, typer.Option(help="folder of the frames, with what each training reaches")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the mark that says which report the store has")] = None,
) -> None:
    """Add the study's report, figures and headline numbers to the store, as one run of its own; to each training its levels."""
    store, params = _store(config), read_config(study, Params)
    key = track_report_key(params, find_record(reports))
    done = store is not None and _worked(lambda: log_report(store, params, reports))
    if done and store is not None and frames is not None:
        done = _worked(lambda: log_levels(store, params, frames))
    if done:
        typer.echo(f"report in the MLflow store {store}")
    if out is not None:  # after a failure it is no mark of this report, and the next call tries again
        write_record(Record(key if done else replace(key, inputs={}), {}), out)


def import_run(store: Path, train_dir: Path) -> tuple[str, bool]:
    """Put a finished training into the store.

    Returns:
        The MLflow run's id, and whether it is new: the same checkpoint is never added twice.
    """
    run = read_config(train_dir / "run.json", RunConfig)
    mlflow = stores.client(store)
    found = find_run(mlflow, store, run, "result_digest", result_digest(train_dir))
    if found is not None:
        return found, False
    run_id = create_run(mlflow, store, run, _tags(train_dir) | {"imported": "true"})
    publish(mlflow, run_id, train_dir)
    return run_id, True


def log_report(store: Path, params: Params, reports: Path) -> str:
    """The study's report as an MLflow run; a newer report replaces the older one's run. Returns its id."""
    mlflow = stores.client(store)
    experiment = stores.experiment_id(mlflow, params.study, store)
    for old in mlflow.search_runs([experiment], "tags.stage = 'report'"):
        mlflow.delete_run(old.info.run_id)
    run_id = mlflow.create_run(
        experiment, run_name="report", tags={"study": params.study, "stage": "report"}
    ).info.run_id
    from mlflow.entities import Metric

    for name in ("headline.json", "metrics.json"):
        if (reports / name).is_file():
            values = flatten(json.loads((reports / name).read_text(encoding="utf-8")))
            numbers = [
                (key, value)
                for key, value in values.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            ]
            stores.log_metrics(mlflow, run_id, [Metric(_allowed(key), float(value), 0, 0) for key, value in numbers])
    for path in sorted(
        p for p in reports.rglob("*") if p.is_file() and p.suffix in {".md", ".html", ".json", ".png", ".pdf", ".csv"}
    ):
        folder = path.parent.relative_to(reports).as_posix()
        mlflow.log_artifact(run_id, str(path), None if folder == "." else folder)
    mlflow.set_terminated(run_id, "FINISHED")
    return run_id


def _tags(train_dir: Path) -> dict[str, str]:
    """What train.json says about the origin of the result."""
    values = flatten(json.loads((train_dir / "train.json").read_text(encoding="utf-8")))
    return {key: str(value) for key, value in values.items() if "digest" in key or key.endswith("commit")}


def _worked(action: Callable[[], object]) -> bool:
    """Whether the store could be written; tracking is for looking at, and its failures end nothing."""
    try:
        action()
    except Exception as e:  # whatever MLflow, SQLAlchemy or the disk raise
        log.warning("the MLflow store cannot be used (%s: %s); results are not touched by that", type(e).__name__, e)
        return False
    return True


def _allowed(key: str) -> str:
    """A metric name that MLflow takes."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in key)


def _store(config: Path) -> Path | None:
    """The store's folder, or None where nothing is tracked."""
    tracking = read_config(config, TrackingFile)
    if tracking.kind == "none":
        typer.echo("tracking is off (tracking.kind: none)")
        return None
    if find_spec("mlflow") is None:
        log.warning(
            "MLflow is not installed: nothing is tracked (%s; tracking.kind: none says so for good)", install("mlflow")
        )
        return None
    return tracking.store

"""Tracking loses nothing, whoever writes at the same time or is killed, and never ends a training."""

import json
import logging
import math
import shutil
from pathlib import Path

import polars as pl
import pytest

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig
from lgmamba.config.study import load_params
from lgmamba.files import to_json, write_atomic
from lgmamba.keys import track_report_key
from lgmamba.metrics import LIMIT
from lgmamba.records import reason_to_make
from lgmamba.track import NullTracker, metric_name, open_tracker, store, tracker
from lgmamba.track.commands import import_run, log_report
from lgmamba.track.levels import log_levels
from lgmamba.track.remedies import track_remedies
from lgmamba.track.tracker import result_digest
from tests import copies
from tests.cli.conftest import lgmamba  # noqa: F401 (a fixture)
from tests.sharing import made_once

ROOT = Path(__file__).parents[2]
STEPS = 600
"""More than a batch of `store`: values are written while a training runs, and at its end."""
TAGS = {"key_digest": "k"}


@pytest.fixture(autouse=True)
def made_database(tmp_path_factory, monkeypatch):
    """The tables of a new store are a copy of those that MLflow made once, which takes it seconds."""
    create = store._create
    made = made_once(tmp_path_factory, "mlflow_database", lambda folder: create(folder / "mlflow.db")) / "mlflow.db"
    monkeypatch.setattr(store, "_create", lambda database: shutil.copy(made, database))


def run_config(seed: int = 0) -> RunConfig:
    return next(iter(load_params(ROOT / "params.yaml").run_configs().values())).model_copy(update={"seed": seed})


def finish_training(folder: Path, run: RunConfig, rows: list[tuple]) -> Path:
    """The files that a training leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "run.json", run.model_dump_json())
    write_atomic(folder / "train.json", to_json({"data_digest": "d", "code_digest": "c"}))
    write_atomic(folder / "model.safetensors", f"weights of seed {run.seed}")
    schema = {"step": pl.Int64, "metric": pl.String, "length": pl.Int64, "value": pl.Float64}
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / "history.parquet")
    return folder


def train(root: Path, seed: int, steps: range, of: int, finish: bool = True) -> None:
    """A training that logs `steps`, and if it ends, leaves the history of all `of` steps."""
    run = run_config(seed)
    recorder = open_tracker(root / "store", run, {"code_digest": "c", "key_digest": f"key{seed}"})
    for step in steps:
        recorder.log(step, {"loss": 1 / (step + 1), metric_name("val_psnr", 16): float(step)})
    if finish:
        rows = [row for s in range(of) for row in ((s, "loss", None, 1 / (s + 1)), (s, "val_psnr", 16, float(s)))]
        recorder.finish(finish_training(root / f"train{seed}", run, rows))


def tracked(root: Path) -> list:
    client = store.client(root / "store")
    return client.search_runs([client.get_experiment_by_name(run_config().study).experiment_id])


def steps_of(root: Path, run_id: str, key: str) -> list[int]:
    return sorted(m.step for m in store.client(root / "store").get_metric_history(run_id, key))


@pytest.mark.thorough
@pytest.mark.workflow
@pytest.mark.slow
def test_eight_trainings_at_once_on_a_store_that_is_not_there_yet_lose_nothing(tmp_path):
    with copies.context(*copies.TRAINING, *copies.TRACKING).Pool(8) as pool:
        pool.starmap(train, [(tmp_path, seed, range(STEPS), STEPS) for seed in range(8)])
    runs = tracked(tmp_path)
    assert sorted(int(r.data.tags["seed"]) for r in runs) == list(range(8))
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.params["train.lr"] == str(run_config().train.lr)
        assert run.data.tags["code_digest"] == "c"
        for key in ("loss", "val_psnr/length_0016"):
            assert steps_of(tmp_path, run.info.run_id, key) == list(range(STEPS))
        artefacts = {a.path for a in store.client(tmp_path / "store").list_artifacts(run.info.run_id)}
        assert artefacts == {"run.json", "train.json", "history.parquet", "model.safetensors"}


@pytest.mark.workflow
def test_a_killed_training_goes_on_in_the_same_run_and_lacks_nothing(tmp_path):
    train(
        tmp_path, 0, range(1200), 2000, finish=False
    )  # killed: what is still in memory (after step 999 or so) is lost
    train(tmp_path, 0, range(900, 2000), 2000)  # resumes from the checkpoint at step 900
    (run,) = tracked(tmp_path)
    assert steps_of(tmp_path, run.info.run_id, "loss") == list(range(2000))
    assert run.info.status == "FINISHED"
    train(tmp_path, 0, range(2000), 2000)  # trained again from exactly the same: no second run of it
    (again,) = tracked(tmp_path)
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    assert steps_of(tmp_path, run.info.run_id, "loss") == list(range(2000))


@pytest.mark.workflow
def test_a_training_that_somebody_ends_is_not_shown_as_running(tmp_path):
    recorder = open_tracker(tmp_path / "store", run_config(), TAGS)
    recorder.log(0, {"loss": 1.0})
    recorder.stop()
    (run,) = tracked(tmp_path)
    assert (run.info.status, run.data.metrics["loss"]) == ("KILLED", 1.0)


@pytest.mark.workflow
def test_a_store_that_cannot_be_written_ends_no_command(tmp_path, lgmamba):  # noqa: F811
    (tmp_path / "store").write_text("a file where a folder should be")
    config = {"study": "x", "kind": "mlflow", "store": str(tmp_path / "store")}
    (tmp_path / "tracking.json").write_text(to_json(config))
    (tmp_path / "study.json").write_text(load_params(ROOT / "params.yaml").model_dump_json())
    made = lgmamba("track", "init", "--config", tmp_path / "tracking.json")
    words = ("--config", tmp_path / "tracking.json", "--study", tmp_path / "study.json", "--reports", tmp_path)
    told = lgmamba("track", "report", *words, "--out", tmp_path / "mark")
    assert (made.code, told.code) == (0, 0)
    key = track_report_key(load_params(ROOT / "params.yaml"), None)
    assert reason_to_make(key, tmp_path / "mark") is not None  # the next call tries again


def test_a_run_whose_study_is_a_path_is_refused(tmp_path):
    folder = finish_training(tmp_path / "train", run_config(), [])
    values = json.loads((folder / "run.json").read_text()) | {"study": "../../x"}
    (folder / "run.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"run\.json is invalid:\s+study: found '\.\./\.\./x'"):
        import_run(tmp_path / "store", folder)
    assert not (tmp_path / "store").exists()


@pytest.mark.workflow
def test_a_failed_training_says_why(tmp_path):
    recorder = open_tracker(tmp_path / "store", run_config(), TAGS)
    recorder.log(0, {"loss": 1.0})
    recorder.fail("loss is NaN at step 1")
    (run,) = tracked(tmp_path)
    assert (run.info.status, run.data.tags["failure"], run.data.metrics["loss"]) == (
        "FAILED",
        "loss is NaN at step 1",
        1.0,
    )


@pytest.mark.workflow
def test_an_imported_run_is_complete_and_not_added_twice(tmp_path):
    rows = [(s, "loss", None, 1.0) for s in range(20)] + [(10, "val_psnr", 4, 12.5)]
    folder = finish_training(tmp_path / "train", run_config(), rows)
    run_id, new = import_run(tmp_path / "store", folder)
    assert new
    assert import_run(tmp_path / "store", folder) == (run_id, False)
    (run,) = tracked(tmp_path)
    assert run.data.metrics == {"loss": 1.0, "val_psnr/length_0004": 12.5}
    assert run.data.tags["data_digest"] == "d"
    assert run.data.tags["imported"] == "true"


@pytest.mark.workflow
def test_a_live_run_is_not_imported_again(tmp_path):
    train(tmp_path, 0, range(5), 5)
    assert import_run(tmp_path / "store", tmp_path / "train0")[1] is False


@pytest.mark.workflow
def test_a_moved_store_finds_its_artefacts(tmp_path):
    train(tmp_path / ".", 0, range(5), 5)
    (run,) = tracked(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "store", tmp_path / "elsewhere" / "store")
    client = store.client(tmp_path / "elsewhere" / "store")
    assert {a.path for a in client.list_artifacts(run.info.run_id)} >= {"model.safetensors"}


@pytest.mark.workflow
def test_the_report_is_one_run_and_a_newer_one_replaces_it(tmp_path):
    params = load_params(ROOT / "params.yaml")
    (tmp_path / "reports" / "figures").mkdir(parents=True)
    (tmp_path / "reports" / "figures" / "curves.png").touch()
    (tmp_path / "reports" / "report.md").write_text("answer")
    (tmp_path / "reports" / "headline.json").write_text(
        '{"psnr": {"at L0 (dB)": 20.5}, "verdict": "holds", "shown": true}'
    )
    for _ in range(2):
        run_id = log_report(tmp_path / "store", params, tmp_path / "reports")
    (run,) = tracked(tmp_path)
    assert run.info.run_id == run_id
    assert run.data.metrics == {"psnr.at L0 _dB_": 20.5}
    assert {a.path for a in store.client(tmp_path / "store").list_artifacts(run_id)} == {
        "figures",
        "report.md",
        "headline.json",
    }


@pytest.mark.workflow
def test_trainings_carry_what_they_reach_on_held_out_images(tmp_path):
    params = load_params(ROOT / "params.yaml")
    run, L0, order = run_config().run, run_config().L0, params.evaluation.orders[0]
    train(tmp_path, 0, range(3), 3)
    rows = [(run, seed, "prefix", order, "model", t, 10.0 + seed + t, 80.0) for seed in (0, 1) for t in (1, L0)]
    rows += [(run, 0, "prefix", order, "model", 2 * L0, 10.0 + 2 * L0, None)]
    rows += [(run, 0, "stream", order, "model", L0, 99.0, 9.0), (run, 0, "prefix", order, "paste", L0, 99.0, 9.0)]
    names = ["run", "seed", "mode", "order", "method", "step", "psnr", "accuracy"]
    pl.DataFrame(rows, schema=names, orient="row").write_parquet(tmp_path / "curves.parquet")
    digests = [(run, 0, result_digest(tmp_path / "train0")), (run, 1, "of a training that the store does not know")]
    pl.DataFrame(digests, schema=["run", "seed", "checkpoint_digest"], orient="row").write_parquet(
        tmp_path / "runs.parquet"
    )
    for _ in range(2):  # once more changes nothing
        assert log_levels(tmp_path / "store", params, tmp_path) == 1
    (found,) = tracked(tmp_path)
    levels = {name: value for name, value in found.data.metrics.items() if name.startswith("test_")}
    drawn = {"test_psnr": 10 + 2 * L0, "test_psnr/at_L0": 10 + L0, "test_psnr/at_2_L0": 10 + 2 * L0}
    assert levels == drawn | {"test_accuracy": 80, "test_accuracy/at_L0": 80}
    assert steps_of(tmp_path, found.info.run_id, "test_psnr") == [1, L0, 2 * L0]


def test_a_store_that_cannot_be_used_warns_once_and_ends_nothing(tmp_path, caplog):
    (tmp_path / "store").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        recorder = open_tracker(tmp_path / "store", run_config(), TAGS)
        for step in range(3000):
            recorder.log(step, {"loss": 1.0})
        recorder.fail("whatever")
    assert len([r for r in caplog.records if "the training goes on" in r.getMessage()]) == 1


def test_no_store_means_no_tracking_and_no_mlflow(tmp_path, monkeypatch, caplog):
    assert isinstance(open_tracker(None, run_config(), TAGS), NullTracker)
    monkeypatch.setattr(tracker, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert isinstance(open_tracker(tmp_path / "store", run_config(), TAGS), NullTracker)
    assert "lgmamba track import" in caplog.text
    recorder = NullTracker()
    recorder.log(0, {"loss": 1.0})
    recorder.fail("x")
    recorder.finish(tmp_path)


def test_remedies_are_one_run_that_a_newer_one_replaces_and_no_store_is_no_matter(tmp_path, caplog):
    run = run_config()
    rows = [("permutation", "vanilla", 8, 0.01), ("permutation", "vanilla", 8, 0.03), ("permutation", "paste", 8, 0.0)]
    (tmp_path / "out").mkdir()
    pl.DataFrame(rows, schema=["order", "remedy", "step", "mse"], orient="row").write_parquet(
        tmp_path / "out" / "steps.parquet"
    )
    about = {
        "L0": 4,
        "data_digest": "d",
        "checkpoint_digest": "c",
        "code_digest": "e",
        "remedy_evaluation": {"images": 2},
    }
    calibration = {"seconds": 2.0}
    about["remedies"] = [{"name": "vanilla", "words": "as it is", "read_s": 0.5, "calibration": calibration}]
    write_atomic(tmp_path / "out" / "remedies.json", to_json(about))
    for _ in range(2):
        track_remedies(tmp_path / "store", run, tmp_path / "out")
    (found,) = tracked(tmp_path)
    assert found.info.status == "FINISHED"
    assert (found.data.tags["stage"], found.data.tags["run"], found.data.tags["checkpoint_digest"]) == (
        "remedy",
        run.run,
        "c",
    )
    assert found.data.metrics == {
        "psnr/permutation/vanilla": pytest.approx(-10 * math.log10(0.02)),
        "psnr/permutation/paste": LIMIT,
        "seconds/vanilla": 2.5,
    }
    assert found.data.params == {"L0": "4", "remedy_evaluation.images": "2", "remedy.vanilla": "as it is"}
    track_remedies(None, run, tmp_path / "gone")
    with caplog.at_level(logging.WARNING):
        track_remedies(tmp_path / "store", run, tmp_path / "gone")
    assert "MLflow tracking of the remedies" in caplog.text

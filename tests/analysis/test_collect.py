import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from lgmamba.analysis.collect import CollectError, collect_runs, load_study
from lgmamba.analysis.evaluate import evaluate
from lgmamba.config.base import ConfigError
from lgmamba.config.differences import differing_keys, flatten
from tests.records import record_again


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    record_again(path.parent)


def test_runs_come_in_the_order_of_the_configuration(study):
    params = load_study(study.study)
    found = [(f.run, f.seed) for f in collect_runs(params, study.results / "runs")]
    assert found == list(params.run_configs())


def test_all_missing_files_are_named_at_once(fresh):
    shutil.rmtree(fresh.results / "runs/uniform/seed1")
    (fresh.results / "runs/adaptive/seed0/evaluation/steps.parquet").unlink()
    with pytest.raises(CollectError) as error:
        evaluate(fresh.study, fresh.results, fresh.frames)
    message = str(error.value)
    assert "uniform seed 1: missing run.json, train.json, history.parquet in" in message
    assert "adaptive seed 0: missing steps.parquet in" in message
    assert not fresh.frames.exists()


def test_a_run_trained_with_another_configuration_is_refused(fresh):
    path = fresh.results / "runs/uniform/seed1/train/run.json"
    config = json.loads(path.read_text())
    config["train"]["lr"] = 0.5
    path.write_text(json.dumps(config))
    record_again(path.parent)
    with pytest.raises(
        CollectError,
        match=r"uniform seed 1: trained with another configuration.*train\.lr: found 0\.5, expected 0\.002",
    ):
        evaluate(fresh.study, fresh.results, fresh.frames)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        (
            "evaluation/evaluation.json",
            {"data_digest": "e" * 64},
            "fixed_16 seed 0: trained on images dddddddddddd but reconstructed images eeeeeeeeeeee",
        ),
        (
            "evaluation/evaluation.json",
            {"checkpoint_digest": "f" * 64},
            "fixed_16 seed 0: reconstructed with checkpoint ffffffffffff, but train/ holds",
        ),
        (
            "train/train.json",
            {"data_digest": "e" * 64},
            "runs used different images: eeeeeeeeeeee: fixed_16 seed 0; dddddddddddd: fixed_16 seed 1",
        ),
    ],
    ids=["evaluation images", "checkpoint", "other images"],
)
def test_results_that_do_not_belong_together_are_refused(fresh, file: str, values: dict, message: str):
    change(fresh.results / "runs/fixed_16/seed0" / file, **values)
    with pytest.raises(CollectError, match=message):
        evaluate(fresh.study, fresh.results, fresh.frames)


def test_another_evaluation_is_refused(fresh):
    path = fresh.results / "runs/fixed_16/seed0/evaluation/evaluation.json"
    change(path, evaluation=json.loads(path.read_text())["evaluation"] | {"repeats": 9})
    with pytest.raises(CollectError, match=r"reconstructed with another configuration.*repeats: found 9, expected 2"):
        evaluate(fresh.study, fresh.results, fresh.frames)


def test_runs_measured_on_other_images_cannot_be_paired(fresh):
    path = fresh.results / "runs/uniform/seed0/evaluation/steps.parquet"
    pl.read_parquet(path).with_columns(pl.col("image") + 1).write_parquet(path)
    record_again(path.parent)
    with pytest.raises(CollectError, match="uniform seed 0: reconstructed other images than fixed_16 seed 0"):
        evaluate(fresh.study, fresh.results, fresh.frames)


def test_a_missing_study_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"study\.json: no such file"):
        load_study(tmp_path / "study.json")


def test_differing_keys_by_hand():
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": {}}) == {"a.b": 1, "a.c": [1, 2], "d": {}}
    assert differing_keys({"a": {"b": 1}, "x": 2}, {"a": {"b": 3}}) == [
        "a.b: found 1, expected 3",
        "x: found 2, expected nothing",
    ]
    assert differing_keys({"a": 1}, {"a": 1}) == []


def test_an_error_that_is_no_number_names_its_run(fresh):
    path = fresh.results / "runs/uniform/seed0/evaluation/steps.parquet"
    steps = pl.read_parquet(path)
    broken = (pl.col("image") == 101) & (pl.col("step") == 8) & (pl.col("method") == "model")
    steps.with_columns(mse=pl.when(broken).then(float("nan")).otherwise("mse").cast(pl.Float32)).write_parquet(path)
    record_again(path.parent)
    with pytest.raises(
        CollectError, match=r"uniform seed 0: the error of 1 reconstructions .* image 101 at step 8 \(model\): nan"
    ):
        evaluate(fresh.study, fresh.results, fresh.frames)


@pytest.mark.parametrize(
    "file",
    [
        "seed1/train/train.json",
        "seed1/train/history.parquet",
        "seed1/evaluation/steps.parquet",
        "seed0/evaluation/panel.safetensors",  # the first seed's alone is read
    ],
)
@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1])], ids=["half", "a bit"]
)
def test_a_damaged_file_is_named_with_its_stage_and_never_read(fresh, file, damage):
    path = fresh.results / "runs/uniform" / file
    path.write_bytes(damage(path.read_bytes()))
    stage = {"train": "train", "evaluation": "reconstruct"}[path.parent.name]
    with pytest.raises(
        CollectError, match=rf"uniform seed [01]: .*{path.name}: damaged .*`lgmamba {stage} \.\.\. --out"
    ):
        evaluate(fresh.study, fresh.results, fresh.frames)
    assert not fresh.frames.exists()


def test_a_result_that_was_not_finished_is_named(fresh):
    (fresh.results / "runs/uniform/seed1/evaluation/record.json").unlink()
    with pytest.raises(
        CollectError, match=r"uniform seed 1: .*record\.json: missing, so that what is there was not fin"
    ):
        evaluate(fresh.study, fresh.results, fresh.frames)

"""What the stage `remedy` writes: every row of the table, paired, against reading each image alone."""

import json
import stat
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from lgmamba.config.base import ConfigError
from lgmamba.config.files import RemedyFile, remedy_file
from lgmamba.config.remedies import RemedyEvaluationConfig, controls_of
from lgmamba.config.study import Params, validate
from lgmamba.data.artefact import read_manifest
from lgmamba.data.dataset import load_dataset
from lgmamba.files import file_digest
from lgmamba.probe import remedy as stage
from lgmamba.probe.remedy import Trial, try_remedies
from lgmamba.provenance import code_digest
from lgmamba.tasks.draw.config import DrawConfig
from lgmamba.tasks.registry import build_task
from tests.train.tiny import CPU, build_digits

L0 = 6
CONTROLS = (*controls_of(DrawConfig), DrawConfig.ORACLE)
STEPS = [1, 3, 6, 12, 24]
IMAGES = 4
"""A batch: what is read in several is compared with it below."""
REMEDIES = [
    {"name": "running", "kind": "step_size", "form": "power", "mode": "stream"},
    {"name": "uniform", "kind": "step_size", "form": "uniform", "mode": "prefix"},
    {"name": "mult", "kind": "spectrum", "form": "mult", "calibrate": "gradient", "mode": "prefix"},
    {"name": "longmamba", "kind": "longmamba", "mode": "prefix"},
    {"name": "norm", "kind": "normalise_state", "quantile": 0.5, "mode": "stream"},
    {"name": "two", "combine": ["running", "norm"]},
    {"name": "windows", "kind": "assemble", "mode": "stream"},
]
EXTENSION = {
    "runs": ["plain", "told"],
    "length_ratios": [1, 2, 4],
    "orders": ["permutation", "replacement"],
    "images": IMAGES,
    "repeats": 2,
    "calibration": {"images": 8, "steps": 2, "lengths": [2, 4]},
}
MODE = {r["name"]: r.get("mode", "stream") for r in REMEDIES}
MODE |= {"vanilla": "prefix", "freeze": "stream", "reset": "stream"}
KEYS = ["remedy", "mode", "order", "repeat", "image", "step"]
CALIBRATED = {"mult", "longmamba", "norm"}
SCHEMA = dict.fromkeys(["run", "remedy", "mode", "order"], pl.String) | dict.fromkeys(
    ["seed", "repeat", "image", "step"], pl.Int64
)
SCHEMA |= {"mse": pl.Float32}


def file(study, run: str, seed: int = 0, remedies: list | None = None, **remedy_evaluation: Any) -> RemedyFile:
    values = study.params.model_dump(mode="json") | {
        "remedies": REMEDIES if remedies is None else remedies,
        "remedy_evaluation": EXTENSION | remedy_evaluation,
    }
    params = validate(Params, values, "study")
    return remedy_file(params, params.run_configs()[run, seed])


def tried(study, run: str, out: Path, seed: int = 0, work: Path | None = None, given: Path | None = None, **how: Any):
    return try_remedies(
        file(study, run, seed, **how), study.home(run, seed) / "train", study.data, out, work, given, CPU
    )


@pytest.fixture(scope="module")
def folders(study, tmp_path_factory) -> dict[str, Path]:
    """Run -> what the stage wrote."""
    root = tmp_path_factory.mktemp("remedies")
    for run in ("plain", "told"):
        tried(study, run, root / run)
    return {run: root / run for run in ("plain", "told")}


def frame(folders, run: str, name: str = "steps") -> pl.DataFrame:
    return pl.read_parquet(folders[run] / f"{name}.parquet")


def rows_of(run: str) -> list[str]:
    extra = ["vanilla_stream"] if run == "told" else []
    return ["vanilla", *extra, *CONTROLS, *(r["name"] for r in REMEDIES)]


@pytest.mark.parametrize("run", ["plain", "told"])
def test_one_row_for_each_remedy_order_repeat_image_and_step(study, folders, run):
    steps = frame(folders, run)
    assert dict(steps.schema) == SCHEMA
    expected = set(product(rows_of(run), EXTENSION["orders"], [0, 1], study.rows(IMAGES).tolist(), STEPS))
    assert len(steps) == len(expected)
    assert set(steps.select("remedy", "order", "repeat", "image", "step").rows()) == expected
    assert dict(steps.select("remedy", "mode").unique().rows()) == {
        name: MODE.get(name, "stream" if name == "vanilla_stream" else "prefix") for name in rows_of(run)
    }


@pytest.mark.parametrize("run", ["plain", "told"])
def test_vanilla_is_what_the_probe_of_the_run_reads(study, folders, run):
    probe = study.frame(run).filter(method="model").filter(pl.col("image").is_in(study.rows(IMAGES).tolist()))
    for name, mode in (("vanilla", "prefix"), ("vanilla_stream", "stream"))[: 2 if run == "told" else 1]:
        mine = frame(folders, run).filter(remedy=name).drop("remedy")
        both = mine.join(probe, on=["mode", "order", "repeat", "image", "step"], suffix="_probe")
        assert len(both) == 2 * 2 * IMAGES * len({1, 3, 6, 12, 24})
        # both are rounded to 12 binary digits, after float32 sums grouped alike
        np.testing.assert_allclose(both["mse"], both["mse_probe"], rtol=2.0**-11)
        assert mode in mine["mode"].to_list()


@pytest.mark.parametrize("run", ["plain", "told"])
def test_up_to_the_training_length_every_row_is_vanilla(folders, run):
    short = frame(folders, run).filter((pl.col("step") <= L0) & (pl.col("remedy") != "paste"))
    for name in set(rows_of(run)) - {"paste"}:
        mine = short.filter(remedy=name).sort(KEYS)
        stream = run == "told" and mine["mode"][0] == "stream"
        plain = short.filter(remedy="vanilla_stream" if stream else "vanilla").sort(KEYS)
        np.testing.assert_allclose(mine["mse"], plain["mse"], rtol=2.0**-10)
    about = json.loads((folders[run] / "remedies.json").read_text())
    assert max(row["identity"] for row in about["remedies"]) < 1e-5  # float32, grouped differently


def test_truncated_and_reset_sequences_are_the_plain_pass_over_their_last_steps(study, folders):
    steps = frame(folders, "told").filter(order="replacement", repeat=1)
    cells = study.cells("replacement", IMAGES)
    for i, step in ((0, 12), (3, 24), (2, 3)):
        image = int(study.rows(IMAGES)[i])
        order = cells[i, 1, :step]
        at_truncated = order[-L0:]
        drawn, target = study.drawn("told", image, at_truncated, len(at_truncated), len(at_truncated))
        found = steps.filter(remedy="truncate", image=image, step=step)["mse"].item()
        assert found == pytest.approx(float((drawn - target).square().mean()), rel=2.0**-11)
        at_reset = order[(step - 1) // L0 * L0 :]
        drawn, target = study.drawn("told", image, at_reset, len(at_reset), L0)
        found = steps.filter(remedy="reset", image=image, step=step)["mse"].item()
        assert found == pytest.approx(float((drawn - target).square().mean()), rel=2.0**-11)


def test_pasting_is_that_of_the_probe(study, folders):
    probe = study.frame("plain").filter(method="paste", mode="prefix")
    mine = frame(folders, "plain").filter(remedy="paste")
    both = mine.join(probe, on=["order", "repeat", "image", "step"], suffix="_probe")
    np.testing.assert_allclose(both["mse"], both["mse_probe"], rtol=2.0**-11)
    assert len(both) == len(mine)


@pytest.mark.parametrize("run", ["plain", "told"])
def test_retention_maps_hold_every_cell_and_average_to_the_error(folders, run):
    maps = frame(folders, run, "retention")
    total = maps.group_by("remedy", "mode", "order", "step").agg(
        (pl.col("mse") * pl.col("count")).sum() / pl.col("count").sum(), pl.col("count").sum()
    )
    assert set(total["count"]) == {IMAGES * 2 * 16}
    means = frame(folders, run).group_by("remedy", "mode", "order", "step").agg(pl.col("mse").cast(pl.Float64).mean())
    both = total.join(means, on=["remedy", "mode", "order", "step"], suffix="_steps")
    assert len(both) == len(means)
    np.testing.assert_allclose(both["mse"], both["mse_steps"], rtol=2.0**-12, atol=1e-12)


def test_remedies_json_says_what_was_tried_and_what_it_cost(study, folders):
    about = json.loads((folders["told"] / "remedies.json").read_text())
    assert about.pop("wall_s") > 0
    rows = about.pop("remedies")
    assert about == {
        "run": "told",
        "seed": 0,
        "L0": L0,
        "steps": STEPS,
        "images": IMAGES,
        "repeats": 2,
        "data_digest": read_manifest(study.data).sha256,
        "checkpoint_digest": file_digest(study.home("told") / "train" / "model.safetensors"),
        "code_digest": code_digest("lgmamba.probe.remedy"),
        "remedy_evaluation": RemedyEvaluationConfig.model_validate(EXTENSION).model_dump(mode="json"),
    }
    assert [row["name"] for row in rows] == rows_of("told")
    for row in rows:
        assert row["control"] == (row["name"] in ("vanilla", "vanilla_stream", *CONTROLS))
        assert row["words"]
        assert (row["calibration"] is not None) == (row["name"] in CALIBRATED)
        assert set(row["written_share"]) == (set() if row["name"] == "paste" else {"12", "24"})
        assert all(0 <= share <= 1 for share in row["written_share"].values())
    of = {row["name"]: row for row in rows}
    mult = of["mult"]["calibration"]
    assert (mult["images"], mult["n_forward"]) == (8, 2 * 3 * 2)
    assert set(mult["T"]) == {"12", "24"}
    for found in mult["T"].values():
        assert len(found["factors"]) == 2
        assert found["after"] <= found["before"]
    assert of["freeze"]["written_share"] == {"12": 0.0, "24": 0.0}
    assert of["longmamba"]["calibration"]["T"] == {}


def test_artefacts_are_those_of_calibrated_entries_and_say_whose_they_are(study, folders):
    found = {path.stem: json.loads(path.read_text()) for path in (folders["plain"] / "artefacts").iterdir()}
    assert set(found) == CALIBRATED
    digest = file_digest(study.home("plain") / "train" / "model.safetensors")
    for artefact in found.values():
        assert artefact["key"]["checkpoint"] == digest
        assert (artefact["key"]["L0"], artefact["images"]) == (L0, 8)


def of_few(study, run: str, out: Path, given: Path | None, remedies: list | None = None, **changes: Any) -> None:
    config = file(study, run, remedies=remedies, images=3, repeats=1, orders=["replacement"])
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update=changes)})
    try_remedies(config, study.home(run) / "train", study.data, out, None, given, CPU)


def test_products_of_a_gpu_are_rounded_where_remedies_are_read_and_not_where_they_are_calibrated(
    study, tmp_path, monkeypatch
):
    seen = {}
    for step in ("calibrate", "_read"):
        plain = getattr(Trial, step)

        def watched(*args, step=step, plain=plain):
            seen.setdefault(step, set()).add(torch.backends.cuda.matmul.allow_tf32)
            return plain(*args)

        monkeypatch.setattr(Trial, step, watched)
    of_few(study, "plain", tmp_path, None, [r for r in REMEDIES if r["name"] == "norm"], precision="tf32")
    assert seen == {"calibrate": {False}, "_read": {True}}
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.fixture(scope="module", params=["plain", "told"])
def few(request, study, folders, tmp_path_factory) -> tuple[str, Path]:
    """A run, and the folder of its remedies on few images, read in two batches and in pieces of 5 steps."""
    folder = tmp_path_factory.mktemp("few")
    of_few(study, request.param, folder, folders[request.param] / "artefacts", batch_images=2)
    return request.param, folder


@pytest.mark.parametrize("changes", [{"batch_images": 3}, {"batch_images": 1}, {"chunk": 2}], ids=str)
def test_how_many_images_and_steps_are_read_at_a_time_changes_nothing(study, folders, few, tmp_path, changes):
    run, folder = few
    given, entries = folders[run] / "artefacts", REMEDIES  # the same values: what is tested is reading
    if "chunk" in changes:  # values are calibrated in such pieces, too, and differ by rounding: without those remedies
        given, entries = None, [r for r in REMEDIES if r["name"] not in CALIBRATED | {"two"}]
    of_few(study, run, tmp_path, given, entries, **{"batch_images": 2} | changes)
    mine, other = (pl.read_parquet(where / "steps.parquet").sort(KEYS) for where in (folder, tmp_path))
    if "chunk" in changes:
        mine = mine.filter(~pl.col("remedy").is_in(list(CALIBRATED | {"two"})))
    assert_frame_equal(other, mine, rel_tol=2.0**-10)  # two roundings to 12 binary digits


def test_twice_gives_the_same_bytes_and_leaves_nothing_else(study, folders, tmp_path):
    (tmp_path / "artefacts").mkdir()
    (tmp_path / "artefacts" / "of_an_earlier_call.json").write_text("{}")
    (tmp_path / ".steps.parquet.4711.part").write_bytes(b"left by a killed call")
    tried(study, "told", tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "remedies.json",
        "steps.parquet",
        "retention.parquet",
        "artefacts",
        "record.json",
    }
    assert {p.stem for p in (tmp_path / "artefacts").iterdir()} == CALIBRATED
    for name in ("steps.parquet", "retention.parquet"):
        assert (tmp_path / name).read_bytes() == (folders["told"] / name).read_bytes()
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o644
    values = [json.loads((f / "artefacts" / "mult.json").read_text())["values"] for f in (tmp_path, folders["told"])]
    assert values[0] == values[1]


class Calibrated:
    """Counts calibrations."""

    def __init__(self, monkeypatch):
        self.names: list[str] = []
        calibrate = stage.calibrate
        monkeypatch.setattr(
            stage, "calibrate", lambda entry, images: self.names.append(entry.name) or calibrate(entry, images)
        )


def test_what_was_calibrated_before_a_kill_is_not_calibrated_again(study, tmp_path, monkeypatch):
    few = {"images": 1, "repeats": 1, "orders": ["permutation"]}
    calibrated = Calibrated(monkeypatch)
    tried(study, "plain", tmp_path / "out", work=tmp_path / "work", remedies=REMEDIES[:3], **few)
    tried(study, "plain", tmp_path / "out", work=tmp_path / "work", **few)
    assert calibrated.names == ["mult", "longmamba", "norm"]
    calibrated.names.clear()
    more = EXTENSION["calibration"] | {"steps": 3}
    tried(study, "plain", tmp_path / "out", work=tmp_path / "work", calibration=more, **few)
    assert calibrated.names == ["mult", "longmamba", "norm"]  # another calibration
    calibrated.names.clear()
    tried(study, "plain", tmp_path / "other", seed=1, work=tmp_path / "work", calibration=more, **few)
    assert calibrated.names == ["mult", "longmamba", "norm"]  # another checkpoint


def test_given_values_are_used_and_refused_for_another_checkpoint_or_entry(study, folders, tmp_path, monkeypatch):
    given, calibrated = folders["plain"] / "artefacts", Calibrated(monkeypatch)
    tried(study, "plain", tmp_path / "same", given=given)
    assert calibrated.names == []
    assert (tmp_path / "same" / "steps.parquet").read_bytes() == (folders["plain"] / "steps.parquet").read_bytes()
    with pytest.raises(
        ConfigError, match=r"mult\.json: calibrated for another checkpoint \(found [0-9a-f]{57}\.\.\., ex"
    ):
        tried(study, "plain", tmp_path / "seed", seed=1, given=given)
    other = [REMEDIES[2] | {"scope": "global"}]
    with pytest.raises(ConfigError, match=r"mult\.json: calibrated for another entry"):
        tried(study, "plain", tmp_path / "entry", remedies=other, given=given)
    with pytest.raises(ConfigError, match=r"gone\.json: no such file"):
        tried(study, "plain", tmp_path / "gone", remedies=[REMEDIES[2] | {"name": "gone"}], given=given)
    torn = {
        b"{}": "expected calibrated values",
        b"\xff": "expected calibrated values",
        (given / "mult.json").read_bytes().replace(b"1", b"2", 1): "damaged, or edited by hand",
    }
    for content, told in torn.items():
        (tmp_path / "mult.json").write_bytes(content)
        with pytest.raises(ConfigError, match=rf"mult\.json: {told}"):
            tried(study, "plain", tmp_path / "torn", remedies=[REMEDIES[2]], given=tmp_path)
    assert not (tmp_path / "seed" / "remedies.json").exists()


def test_a_calibration_split_that_is_too_small_is_named_with_its_size(study, tmp_path):
    there = study.dataset.manifest.counts["calib"]
    wanted = EXTENSION["calibration"] | {"images": there + 1}
    text = rf"remedy_evaluation\.calibration\.images: found {there + 1}, but the split calib holds {there} images; .*data\.splits\.calib"
    with pytest.raises(ConfigError, match=text):
        tried(study, "plain", tmp_path, calibration=wanted)
    about = tried(study, "plain", tmp_path, remedies=REMEDIES[:2], calibration=wanted, images=1, repeats=1)
    assert len(about["remedies"]) == 1 + len(CONTROLS) + 2  # nothing here needs calibration


def test_another_checkpoint_and_an_empty_split_are_refused(study, tmp_path):
    with pytest.raises(ConfigError, match=r"expected the checkpoint of run 'plain' seed 0 .*one of 'plain' seed 1"):
        try_remedies(file(study, "plain"), study.home("plain", 1) / "train", study.data, tmp_path, None, None, CPU)
    images, config = load_dataset(build_digits(tmp_path / "data", splits={"test": 0.0})), file(study, "plain")
    with pytest.raises(ConfigError, match=r"evaluation\.split: found 'test', which holds no image"):
        Trial(study.model("plain"), build_task(config.run, images), config, images, "")


def test_random_numbers_belong_to_the_image(study):
    hashes = study.dataset.id_hash[study.rows(4)]
    random_scores = stage._random_scores(hashes, 1, 12)
    assert torch.equal(stage._random_scores(hashes[2:3], 1, 12), random_scores[2:3])
    assert torch.equal(stage._random_scores(hashes, 1, 5), random_scores[:, :5])
    assert not torch.equal(stage._random_scores(hashes, 0, 12), random_scores)

"""What the probe writes about every step, against reading each image alone."""

import json
import math
import stat
from itertools import product

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from lgmamba.config.base import ConfigError
from lgmamba.data.artefact import read_manifest
from lgmamba.data.dataset import load_dataset
from lgmamba.files import file_digest
from lgmamba.metrics import LIMIT
from lgmamba.probe.reconstruct import Evaluation, reconstruct, rounded
from lgmamba.provenance import code_digest
from lgmamba.tasks.registry import build_task
from lgmamba.train.checkpoint import load_model
from tests.train.tiny import CPU, build_digits

STEPS = [1, 2, 3, 4, 5, 6, 8, 12, 16, 17, 24]
KEYS = ["mode", "order", "method", "repeat", "image", "step"]
FILES = {"evaluation.json", "steps.parquet", "retention.parquet", "panel.safetensors", "record.json"}
TEXT, WHOLE = pl.String, pl.Int64
SCHEMA = {
    "run": TEXT,
    "seed": WHOLE,
    "mode": TEXT,
    "order": TEXT,
    "method": TEXT,
    "repeat": WHOLE,
    "image": WHOLE,
    "step": WHOLE,
}
SCHEMA |= {"mse": pl.Float32, "psnr": pl.Float32}


@pytest.mark.parametrize("run", ["plain", "told"])
def test_one_row_for_each_image_repeat_order_step_method_and_mode(study, run):
    frame = study.frame(run)
    assert frame.schema == SCHEMA
    axes = (["stream", "prefix"], ["permutation", "replacement"], ["model", "paste", "mean_image"], [0, 1])
    expected = set(product(*axes, study.rows().tolist(), STEPS))
    assert len(frame) == len(expected) == 2 * 2 * 3 * 2 * 9 * 11
    assert set(frame.select(KEYS).rows()) == expected
    assert frame.select("run", "seed").unique().rows() == [(run, 0)]


def test_psnr_is_minus_ten_log10_of_mse(study):
    frame = study.frame("plain")
    mse = frame["mse"].to_numpy().astype(np.float64)
    # dB; float32 keeps seven digits of some 40 dB
    np.testing.assert_allclose(frame["psnr"].to_numpy(), -10 * np.log10(np.maximum(mse, 1e-12)), atol=1e-4)
    assert set(frame.filter(pl.col("mse") == 0)["method"]) == {"paste"}


@pytest.mark.parametrize("run, mode", [("plain", "prefix"), ("told", "prefix"), ("told", "stream")])
def test_errors_are_those_of_the_plain_forward_pass_told_T_as_prefix_and_L0_as_stream(study, run, mode):
    frame = study.frame(run).filter(method="model", mode=mode)
    for order in ("permutation", "replacement"):
        for i, repeat, step in ((0, 0, 1), (7, 1, 5), (7, 0, 6), (3, 1, 17), (8, 1, 24)):
            image = int(study.rows()[i])
            told = step if mode == "prefix" else 6
            drawn, target = study.drawn(run, image, study.cells(order)[i, repeat], step, told)
            row = frame.filter(order=order, repeat=repeat, image=image, step=step)
            # Reading in pieces and batches adds the same float32 numbers in other orders: 1e-4 is some hundred roundings.
            assert row["mse"].item() == pytest.approx(float((drawn - target).square().mean()), rel=1e-4)


def test_a_plain_model_is_the_same_in_both_modes_and_an_adaptive_one_is_not(study):
    def by_mode(run: str) -> list[pl.DataFrame]:
        frame = study.frame(run).filter(method="model")
        return [frame.filter(mode=m).drop("mode", "psnr").sort(KEYS[1:]) for m in ("stream", "prefix")]

    assert_frame_equal(*by_mode("plain"), check_exact=True)
    stream, prefix = by_mode("told")
    at_L0 = pl.col("step") == 6  # there, both are told L0
    assert_frame_equal(stream.filter(at_L0), prefix.filter(at_L0), rel_tol=1e-4)  # pieces begin elsewhere: float32
    for step in (1, 3, 5, 8, 24):
        a, b = (f.filter(step=step)["mse"].to_numpy() for f in (stream, prefix))
        assert np.abs(a - b).max() > 0.01 * a.max()


FEW = {"images": 3, "orders": ["replacement"], "batch_images": 2}


@pytest.fixture(scope="module", params=["plain", "told"])
def few(request, study, tmp_path_factory):
    """A run, and the folder of its probe on few images, read in two batches and in pieces of 5 steps."""
    folder = tmp_path_factory.mktemp("few")
    study.reconstruct(request.param, out=folder, **FEW)
    return request.param, folder


@pytest.mark.parametrize("changes", [{"batch_images": 3}, {"batch_images": 1}, {"chunk": 1}, {"chunk": 1000}], ids=str)
def test_how_many_images_and_steps_are_read_at_a_time_changes_nothing(study, few, tmp_path, changes):
    run, folder = few
    study.reconstruct(run, out=tmp_path, **FEW | changes)
    expected, found = (study.frame(run, folder=where).sort(KEYS) for where in (folder, tmp_path))
    # float32 sums in other orders; PSNR in dB, where 1e-4 relative error of the mse is 4e-4 dB
    assert_frame_equal(found.drop("psnr"), expected.drop("psnr"), rel_tol=1e-4)
    assert_frame_equal(found.select(*KEYS, "psnr"), expected.select(*KEYS, "psnr"), rel_tol=0, abs_tol=1e-3)
    maps = [study.frame(run, "retention", where).sort("mode", "order", "step", "age") for where in (folder, tmp_path)]
    assert_frame_equal(*maps, rel_tol=1e-4)


@pytest.mark.parametrize("precision, rounded_products", [("fp32", False), ("tf32", True)])
def test_products_of_a_gpu_would_be_as_exact_as_is_said(study, tmp_path, monkeypatch, precision, rounded_products):
    seen = []
    plain = Evaluation._read
    monkeypatch.setattr(
        Evaluation,
        "_read",
        lambda *args: (seen.append(torch.backends.cuda.matmul.allow_tf32), plain(*args)),
    )
    about = study.reconstruct("plain", out=tmp_path, precision=precision, **FEW)
    assert set(seen) == {rounded_products}
    assert about["evaluation"].get("precision", "fp32") == precision
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_file_says_how_exact_products_are_only_where_they_are_not_fp32(study):
    plain, given = (study.evaluation_file("plain", **kwargs) for kwargs in ({}, {"precision": "fp32"}))
    assert given.model_dump_json() == plain.model_dump_json()
    assert "precision" not in plain.evaluation.model_dump(mode="json")
    faster = study.evaluation_file("plain", precision="tf32")
    assert faster.evaluation.model_dump(mode="json")["precision"] == "tf32"


def test_an_image_is_read_alike_whatever_images_are_read_with_it(study, tmp_path):
    study.reconstruct("plain", out=tmp_path, images=4, batch_images=3)
    few, many = study.frame("plain", folder=tmp_path).sort(KEYS), study.frame("plain").sort(KEYS)
    assert few["image"].n_unique() == 4
    assert_frame_equal(
        few, many.filter(pl.col("image").is_in(few["image"].unique().implode())), rel_tol=1e-4
    )  # as above


def test_the_mean_image_is_the_same_at_every_step(study):
    frame = study.frame("told").filter(method="mean_image")
    assert frame.group_by("image").agg(pl.col("mse").n_unique())["mse"].to_list() == [1] * 9
    for image in study.rows().tolist():
        target = study.dataset.images[image].float() / 255
        expected = float((target - study.dataset.mean_image).square().mean())
        # float32 means over cells first, then over the image
        assert frame.filter(image=image)["mse"][0] == pytest.approx(expected, rel=1e-5)


def test_pasting_has_the_mean_images_error_where_nothing_was_read_and_none_elsewhere(study):
    frame = study.frame("plain").filter(method="paste", mode="stream")
    for i, image in enumerate(study.rows().tolist()):
        target = study.dataset.images[image].float() / 255
        for step in STEPS:
            pasted = study.dataset.mean_image.clone()
            for cell in study.cells("replacement")[i, 1, :step].tolist():
                row, col = 2 * (cell // 4), 2 * (cell % 4)
                pasted[:, row : row + 2, col : col + 2] = target[:, row : row + 2, col : col + 2]
            found = frame.filter(order="replacement", repeat=1, image=image, step=step)["mse"].item()
            # float32 means over cells first, then over the image
            assert found == pytest.approx(float((pasted - target).square().mean()), rel=1e-5, abs=1e-9)
    whole = frame.filter(pl.col("order") == "permutation", pl.col("step") >= 16)  # all 16 cells were read
    assert whole["mse"].unique().to_list() == [0.0]
    assert whole["psnr"].unique().to_list() == pytest.approx([LIMIT])
    assert frame.filter(pl.col("order") == "permutation", pl.col("step") < 16)["mse"].min() > 0


def test_probe_json_says_what_was_probed(study):
    home = study.home("told", 1)
    about = json.loads((home / "evaluation" / "evaluation.json").read_text())
    assert about.pop("wall_s") > 0
    assert about == {
        "run": "told",
        "seed": 1,
        "L0": 6,
        "steps": STEPS,
        "images": 9,
        "repeats": 2,
        "data_digest": read_manifest(study.data).sha256,
        "checkpoint_digest": file_digest(home / "train" / "model.safetensors"),
        "code_digest": code_digest("lgmamba.probe.reconstruct"),
        "evaluation": study.params.evaluation.model_dump(mode="json"),
    }


def test_files_are_readable_by_all_and_twice_gives_the_same_bytes(study, tmp_path):
    (tmp_path / ".steps.parquet.4711.part").write_bytes(b"left by a killed call")
    study.reconstruct("told", out=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == FILES
    for name in FILES:
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o644
    for name in FILES - {"evaluation.json", "record.json"}:
        assert (tmp_path / name).read_bytes() == (study.home("told") / "evaluation" / name).read_bytes()


def test_more_images_than_there_are_are_all_that_there_are(study, tmp_path):
    about = study.reconstruct("plain", out=tmp_path, images=10_000, batch_images=50, orders=["raster"], repeats=1)
    assert about["images"] == study.dataset.manifest.counts["test"] > 9
    validation = study.reconstruct("plain", out=tmp_path, split="val", orders=["raster"], repeats=1, images=2)
    assert validation["images"] == 2
    assert study.frame("plain", folder=tmp_path)["image"].unique().to_list() == study.dataset.split("val")[:2].tolist()


def test_a_checkpoint_of_another_run_is_refused(study, tmp_path):
    for run, seed in (("told", 0), ("plain", 1)):
        text = r"model\.safetensors: expected the checkpoint of run 'plain' seed 0 of study 'tiny' as configured now, "
        text += rf"found one of '{run}' seed {seed} of study 'tiny'; "
        text += "train it again"
        with pytest.raises(ConfigError, match=text):
            reconstruct(study.evaluation_file("plain"), study.home(run, seed) / "train", study.data, tmp_path, CPU)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", [None, b"", b"no tensors at all", "data"], ids=["missing", "empty", "text", "images"]
)
def test_what_is_no_checkpoint_is_named(study, tmp_path, content):
    if content == "data":
        content = next(study.data.glob("*.safetensors")).read_bytes()
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.safetensors: expected a checkpoint written by `lgmamba train`; "):
        load_model(tmp_path / "model.safetensors")


def test_a_split_without_images_is_refused(study, tmp_path):
    images = load_dataset(build_digits(tmp_path / "data", splits={"test": 0.0}))
    with pytest.raises(
        ConfigError, match=r"evaluation\.split: found 'test', which holds no image; .*data\.splits\.test > 0"
    ):
        Evaluation(
            study.model("plain"),
            build_task(study.evaluation_file("plain").run, images),
            study.evaluation_file("plain"),
            images,
        )


def test_errors_are_written_to_a_thousandth_of_a_decibel():
    exact = np.exp(np.random.default_rng(0).uniform(-12, 2, 10_000)).astype(np.float32)
    found = rounded(exact)
    assert found.dtype == np.float32
    assert not (found.view(np.uint32) & 0x7FF).any()  # eleven of 23 digits are zero, which is what saves the space
    assert np.abs(10 * np.log10(found / exact.astype(float))).max() <= 10 * math.log10(1 + 2**-13)  # 0.0005 dB
    assert abs((found.astype(float) / exact - 1).mean()) < 5e-6  # to the nearest: no bias
    assert np.array_equal(rounded(found), found)
    assert rounded(np.array([0, np.inf, 1, 0.1], np.float32)).tolist() == [0, np.inf, 1, pytest.approx(0.1, rel=2**-13)]


def test_what_the_stage_writes_is_rounded(study, tmp_path):
    home = study.home("plain")
    reconstruct(study.evaluation_file("plain", 0), home / "train", study.data, tmp_path, CPU)
    found, exact = (study.frame("plain", folder=folder).sort(KEYS) for folder in (tmp_path, None))
    assert np.array_equal(found["mse"].to_numpy(), rounded(exact["mse"].to_numpy()))

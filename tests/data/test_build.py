import os
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
import torch
from PIL import Image

from lgmamba.data import artefact, build, pool
from lgmamba.data.build import build_dataset
from lgmamba.data.dataset import load_dataset
from lgmamba.data.errors import DataError
from tests.data.samples import bomb_png, config, encode, parquet, pixels, pngs, tree, write_table

DIGITS = config(channels="grey", splits={"calib": 0.05, "val": 0.1, "test": 0.2})


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "artefact"
    build_dataset(DIGITS, 2, out)
    return out


def test_digits(digits):
    data = load_dataset(digits)
    m = data.manifest
    # literal: these images are in these splits for ever
    assert m.counts == {"train": 1142, "calib": 106, "val": 180, "test": 369} and m.n_images == 1797
    assert m.image_shape == data.image_shape == (1, 8, 8) and m.n_classes == 10
    assert data.images.dtype == torch.uint8 and data.labels.dtype == torch.int64
    assert data.images.max() == 255 and data.images.min() == 0
    assert len(data.images.unique()) == 17  # 0..16 inked cells


def test_digits_pixels_are_scikit_learns(digits):
    from sklearn.datasets import load_digits

    data = load_dataset(digits)
    bunch = load_digits()
    found = {(im.numpy().tobytes(), int(label)) for im, label in zip(data.images, data.labels, strict=True)}
    scaled = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    assert found == {(im.tobytes(), int(label)) for im, label in zip(scaled, bunch.target, strict=True)}


def test_splits_partition_the_rows_and_the_mean_is_of_train(digits):
    data = load_dataset(digits)
    rows = torch.cat([data.split(name) for name in ("train", "calib", "val", "test")])
    assert rows.tolist() == list(range(1797))
    mean = data.images[data.split("train")].double().mean(0) / 255
    torch.testing.assert_close(data.mean_image.double(), mean, rtol=0, atol=1e-7)  # stored in float32
    assert data.manifest.mean_pixel == pytest.approx([mean.mean().item()], abs=1e-6)
    with pytest.raises(ValueError, match="'valid' is unknown; expected one of train, calib, val, test"):
        data.split("valid")


def test_max_images_moves_no_image(tmp_path, digits):
    whole = load_dataset(digits)
    build_dataset(DIGITS.model_copy(update={"max_images": 200}), 2, tmp_path / "out")
    few = load_dataset(tmp_path / "out")
    assert len(few.images) == 200
    for name in ("train", "calib", "val", "test"):
        n = len(few.split(name))
        assert n > 0
        # a prefix of the whole split, row by row
        torch.testing.assert_close(few.images[few.split(name)], whole.images[whole.split(name)[:n]], rtol=0, atol=0)
        assert few.id_hash[few.split(name)].tolist() == whole.id_hash[whole.split(name)[:n]].tolist()


def test_building_twice_gives_the_same_bytes(tmp_path, digits):
    build_dataset(DIGITS, 2, tmp_path / "again", workers=1)
    assert tree(tmp_path / "again") == tree(digits)


@pytest.mark.parametrize("n_from", [1, 10**6], ids=["processes", "threads"])
def test_every_way_of_decoding_gives_the_same_bytes(tmp_path, monkeypatch, n_from):
    c = parquet(write_table(tmp_path / "x.parquet", [*pngs(40), b"bad"]), on_bad_image="skip")
    build_dataset(c, 4, tmp_path / "one", workers=1)
    monkeypatch.setattr(pool, "PROCESSES_FROM", n_from)
    monkeypatch.setattr(pool, "CHUNK_IMAGES", 8)
    build_dataset(c, 4, tmp_path / "many", workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


def test_no_size_given_keeps_the_size_of_the_source(tmp_path):
    images = [encode(pixels(i, 12, 16)) for i in range(30)]
    c = parquet(write_table(tmp_path / "x.parquet", images), image_size=None)
    assert build_dataset(c, 4, tmp_path / "out").image_shape == (3, 12, 16)
    images[20] = encode(pixels(0, 12, 12))
    write_table(tmp_path / "x.parquet", images)
    with pytest.raises(DataError, match=r"row 20: the image has 12 x 12 pixels, expected 12 x 16"):
        build_dataset(c, 4, tmp_path / "out2")


def test_grey_rgb_and_sizes(tmp_path):
    path = write_table(tmp_path / "x.parquet", [encode(pixels(i, 12, 16)) for i in range(30)])
    for channels, size, fit in (("grey", 8, "resize"), ("rgb", [6, 10], "center_crop"), ("rgb", 20, "resize_crop")):
        c = parquet(path, channels=channels, image_size=size, fit=fit)
        assert build_dataset(c, 2, tmp_path / "out").image_shape == ((1 if channels == "grey" else 3), *c.size)


@pytest.mark.parametrize("size", [8, None], ids=["size given", "size of the source"])
@pytest.mark.parametrize("patch", [3, [2, 3]])
def test_a_patch_that_does_not_divide(tmp_path, size, patch):
    with pytest.raises(DataError, match="patch_size=3 does not divide"):
        build_dataset(DIGITS.model_copy(update={"image_size": size}), patch, tmp_path / "out")
    assert tree(tmp_path) == {}


BAD = {
    "unreadable": (b"x", "not an image"),
    "truncated": (encode(pixels(0, 64, 64))[:-9000], "cannot be decoded"),
    "size": (encode(pixels(0, 8, 9)), "8 x 9 pixels, expected 8 x 8"),
    "bomb": (bomb_png(50_000, 50_000), "decompression bomb"),
    "null": (None, "the image is null"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_images_stop_the_build_or_are_listed(tmp_path, kind):
    encoded, reason = BAD[kind]
    good = pngs(30)
    path = write_table(tmp_path / "x.parquet", [*good[:5], encoded, *good[5:], encoded])
    with pytest.raises(DataError) as e:
        build_dataset(parquet(path), 4, tmp_path / "out")
    assert "x.parquet, row 5: " in str(e.value) and reason in str(e.value)
    assert not (tmp_path / "out").exists()

    manifest = build_dataset(parquet(path, on_bad_image="skip"), 4, tmp_path / "out")
    assert [s.row for s in manifest.skipped] == [5, 31] and all(reason in s.reason for s in manifest.skipped)
    data = load_dataset(tmp_path / "out")
    assert len(data.images) == manifest.n_images == 30 == sum(manifest.counts.values())
    assert {im.numpy().tobytes() for im in data.images} == {pixels(i).transpose(2, 0, 1).tobytes() for i in range(30)}


@pytest.mark.parametrize("size", [8, None], ids=["size given", "size of the source"])
def test_all_images_bad_is_an_error_even_when_skipping(tmp_path, size):
    path = write_table(tmp_path / "x.parquet", [b"x"] * 20)
    with pytest.raises(DataError, match=r"20 of 20 images are bad|none of 20 images could be decoded"):
        build_dataset(parquet(path, on_bad_image="skip", image_size=size), 4, tmp_path / "out")


def test_the_first_readable_image_settles_the_size_when_skipping(tmp_path):
    path = write_table(tmp_path / "x.parquet", [b"x", *pngs(30)])
    assert build_dataset(parquet(path, on_bad_image="skip", image_size=None), 4, tmp_path / "out").n_images == 30
    with pytest.raises(DataError, match=r"x\.parquet, row 0: not an image"):
        build_dataset(parquet(path, image_size=None), 4, tmp_path / "out2")


def test_nothing_left_to_train_on(tmp_path):
    c = config(splits={"calib": 0.0, "val": 0.0, "test": 0.99}, max_images=5)
    with pytest.raises(DataError, match="none of 5 images is left to train on"):
        build_dataset(c, 4, tmp_path / "out")


def fail(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["decode", "write", "publish"])
def test_an_interrupted_build_changes_nothing(tmp_path, monkeypatch, where):
    path = write_table(tmp_path / "x.parquet", pngs(40))
    build_dataset(parquet(path), 4, tmp_path / "out")
    before = tree(tmp_path / "out")
    write_table(path, pngs(40, first=100))
    inputs = tree(tmp_path)
    target = {"decode": (build, "decode_all"), "write": (build, "write_tensors"), "publish": (artefact, "to_json")}[
        where
    ]
    monkeypatch.setattr(*target, fail)
    for out in ("out", "new"):
        with pytest.raises(KeyboardInterrupt):
            build_dataset(parquet(path), 4, tmp_path / out)
    assert tree(tmp_path) == inputs and not (tmp_path / "new").exists()
    assert tree(tmp_path / "out") == before
    monkeypatch.undo()
    assert build_dataset(parquet(path), 4, tmp_path / "out").sha256 not in before["manifest.json"].decode()
    assert len(tree(tmp_path / "out")) == 2


def test_a_kill_between_tensors_and_manifest_leaves_the_old_artefact(tmp_path, monkeypatch):
    path = write_table(tmp_path / "x.parquet", pngs(40))
    old = build_dataset(parquet(path), 4, tmp_path / "out")
    write_table(path, pngs(40, first=100))
    replace, calls = os.replace, []

    def replace_once(*args):
        if calls:
            raise KeyboardInterrupt
        calls.append(args)
        replace(*args)

    monkeypatch.setattr(artefact.os, "replace", replace_once)
    with pytest.raises(KeyboardInterrupt):
        build_dataset(parquet(path), 4, tmp_path / "out")
    monkeypatch.undo()
    assert load_dataset(tmp_path / "out").manifest == old
    new = build_dataset(parquet(path), 4, tmp_path / "out")
    assert sorted(tree(tmp_path / "out")) == sorted([new.file, "manifest.json"])


def test_a_killed_process_leaves_no_artefact_and_the_next_build_tidies_up(tmp_path):
    program = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from lgmamba.data.artefact import staging\n"
        f"with staging(Path({str(tmp_path / 'out')!r})) as stage:\n"
        "    (stage / 'artefact' / 'tensors').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists() and len(tree(tmp_path)) == 1
    manifest = build_dataset(DIGITS, 2, tmp_path / "out")
    assert sorted(tree(tmp_path)) == sorted([f"out/{manifest.file}", "out/manifest.json"])


def test_a_killed_worker_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise BrokenProcessPool
        yield

    monkeypatch.setattr(pool, "_in_order", broken)
    with pytest.raises(DataError, match=r"lack of memory; lower data\.max_pixels or use fewer workers"):
        build_dataset(DIGITS, 2, tmp_path / "out", workers=2)
    assert tree(tmp_path) == {}


def test_pillows_own_limit_is_left_as_it_was(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    path = write_table(tmp_path / "x.parquet", [*pngs(30), b"x"])
    with pytest.raises(DataError):
        build_dataset(parquet(path), 4, tmp_path / "out")
    assert Image.MAX_IMAGE_PIXELS == before


def test_out_may_not_be_a_file(tmp_path):
    (tmp_path / "out").write_text("notes")
    with pytest.raises(DataError, match="out is a file"):
        build_dataset(DIGITS, 2, tmp_path / "out")


def test_progress_goes_to_standard_error_only_when_asked(tmp_path, capsys):
    build_dataset(DIGITS, 2, tmp_path / "out")
    assert capsys.readouterr() == ("", "")
    build_dataset(DIGITS, 2, tmp_path / "out", progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "decoding" in err and "1797/1797" in err

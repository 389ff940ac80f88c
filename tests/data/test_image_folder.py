import pytest
from PIL import Image

from lgmamba.data.build import build_dataset
from lgmamba.data.dataset import load_dataset
from lgmamba.data.errors import DataError
from tests.data.samples import config, encode, pixels, write_folder


def folder(path, **overrides):
    source = {"kind": "image_folder", "path": str(path)}
    if "test_path" in overrides:
        source["test_path"] = str(overrides.pop("test_path"))
        overrides.setdefault("splits", {"calib": 0.1, "val": 0.2, "test": 0.0})
    return config(source, **overrides)


def test_sorted_folder_names_are_the_labels(tmp_path):
    write_folder(tmp_path / "in", {"dog": 15, "cat": 25})
    manifest = build_dataset(folder(tmp_path / "in"), 4, tmp_path / "out")
    data = load_dataset(tmp_path / "out")
    assert manifest.class_names == ["cat", "dog"] and manifest.n_classes == 2
    assert data.labels.bincount().tolist() == [25, 15]
    expected = {pixels(i).transpose(2, 0, 1).tobytes(): 1 for i in range(15)}
    expected |= {pixels(1000 + i).transpose(2, 0, 1).tobytes(): 0 for i in range(25)}
    assert {im.numpy().tobytes(): label.item() for im, label in zip(data.images, data.labels, strict=True)} == expected


def test_any_format_and_nested_folders(tmp_path):
    write_folder(tmp_path / "in", {"cat": 20})
    (tmp_path / "in" / "cat" / "more").mkdir()
    for name, format in (
        ("a.JPG", "JPEG"),
        ("more/b.bmp", "BMP"),
        ("c.webp", "WEBP"),
        ("d.gif", "GIF"),
        ("e.tiff", "TIFF"),
    ):
        (tmp_path / "in" / "cat" / name).write_bytes(encode(Image.fromarray(pixels(1)), format))
    for ignored in (".hidden.png", "notes.txt", "Thumbs.db"):
        (tmp_path / "in" / "cat" / ignored).write_bytes(b"not an image")
    assert build_dataset(folder(tmp_path / "in"), 4, tmp_path / "out").n_images == 25


def test_test_path_uses_the_same_labels(tmp_path):
    write_folder(tmp_path / "train", {"cat": 20, "dog": 20})
    write_folder(tmp_path / "test", {"dog": 5})
    manifest = build_dataset(folder(tmp_path / "train", test_path=tmp_path / "test"), 4, tmp_path / "out")
    data = load_dataset(tmp_path / "out")
    assert manifest.counts["test"] == 5 and data.labels[data.split("test")].tolist() == [1] * 5
    write_folder(tmp_path / "test2", {"eel": 5})
    with pytest.raises(DataError, match="class 'eel' is not in"):
        build_dataset(folder(tmp_path / "train", test_path=tmp_path / "test2"), 4, tmp_path / "out2")


def test_the_source_digest_follows_the_content(tmp_path):
    write_folder(tmp_path / "in", {"cat": 20})
    digests = [build_dataset(folder(tmp_path / "in"), 4, tmp_path / "out").sources[0].sha256 for _ in range(2)]
    (tmp_path / "in" / "cat" / "000.png").write_bytes(encode(pixels(77)))
    digests.append(build_dataset(folder(tmp_path / "in"), 4, tmp_path / "out").sources[0].sha256)
    assert digests[0] == digests[1] != digests[2]


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        build_dataset(folder(tmp_path / "in"), 4, tmp_path / "out")


def test_class_folders_without_images(tmp_path):
    (tmp_path / "in" / "cat").mkdir(parents=True)
    (tmp_path / "in" / "cat" / "notes.txt").write_text("no image")
    with pytest.raises(
        DataError,
        match=r"no image of 1 classes; left out: 1 \.txt files \(such as .*notes\.txt\); expected .*/<class>/<image> or",
    ):
        build_dataset(folder(tmp_path / "in"), 4, tmp_path / "out")


def test_a_bad_file_is_named(tmp_path):
    write_folder(tmp_path / "in", {"cat": 20})
    (tmp_path / "in" / "cat" / "007.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"cat/007.png: not an image that Pillow can read .* data.on_bad_image: skip"):
        build_dataset(folder(tmp_path / "in"), 4, tmp_path / "out")


def test_one_folder_for_both_splits_is_refused(tmp_path):
    write_folder(tmp_path / "in", {"cat": 20})
    with pytest.raises(DataError, match=r"both data\.source\.path and test_path"):
        build_dataset(folder(tmp_path / "in", test_path=tmp_path / "in"), 4, tmp_path / "out")

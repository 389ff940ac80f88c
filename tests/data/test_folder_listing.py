"""What is taken of a folder and what is left out is told; a folder that was meant otherwise is refused with what to write."""

import logging
import os

import pytest
from PIL import Image

from lgmamba.data.artefact import read_manifest
from lgmamba.data.build import build_dataset
from lgmamba.data.errors import DataError
from lgmamba.data.sources.folder_listing import list_images
from tests.data.samples import encode, pixels, write_folder
from tests.data.test_image_folder import folder


def write(path, content: bytes = b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_what_is_left_out_is_counted_by_reason_in_the_manifest_and_the_log(tmp_path, caplog):
    root = write_folder(tmp_path / "in", {"cat": 20, "dog": 20})
    for name in ("notes.txt", "more.txt", "a.heic", ".hidden.png", "._000.png", "set.h5", "README"):
        write(root / "cat" / name)
    for name in (".ipynb_checkpoints/x.png", "cat/@eaDir/000.png", "__MACOSX/cat/000.png"):
        write(root / name, encode(pixels(5)))
    write(root / "top.png", encode(pixels(6)))
    (root / "dog" / "gone.png").symlink_to("nowhere")
    with caplog.at_level(logging.INFO, "lgmamba"):
        manifest = build_dataset(folder(root), 4, tmp_path / "out")
    assert manifest.class_names == ["cat", "dog"] and manifest.n_images == 40
    assert manifest.sources[0].left_out == {
        ".heic files": 1,
        ".txt files": 2,
        "files that may hold many images": 1,
        "files without extension that are no images": 1,
        "hidden files": 2,
        "hidden or metadata folders": 3,
        "images beside the class folders": 1,
        "links to nothing": 1,
    }
    assert read_manifest(tmp_path / "out") == manifest
    (line,) = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert f"{root}: 40 images of 2 classes; left out: " in line
    assert "2 .txt files (such as " in line and "convert them to JPEG or PNG" in line and "set.h5" in line


def test_a_clean_folder_leaves_no_word_about_what_was_left_out(tmp_path):
    manifest = build_dataset(folder(write_folder(tmp_path / "in", {"cat": 20})), 4, tmp_path / "out")
    assert "left_out" not in (tmp_path / "out" / "manifest.json").read_text("utf-8")
    assert manifest.sources[0].left_out is None


def test_a_folder_without_classes_is_one_class_without_a_name(tmp_path):
    write_folder(tmp_path, {"in": 30})
    write(tmp_path / "in" / "notes" / "a.txt")
    manifest = build_dataset(folder(tmp_path / "in"), 4, tmp_path / "out")
    assert (manifest.n_images, manifest.n_classes, manifest.class_names) == (30, 1, None)
    write_folder(tmp_path, {"test": 7})
    manifest = build_dataset(folder(tmp_path / "in", test_path=tmp_path / "test"), 4, tmp_path / "out2")
    assert manifest.counts["test"] == 7


def test_with_and_without_classes_do_not_go_together(tmp_path):
    write_folder(tmp_path, {"flat": 20})
    write_folder(tmp_path / "classes", {"cat": 5})
    with pytest.raises(DataError, match=r"classes has class folders and .*flat has none; expected both"):
        build_dataset(folder(tmp_path / "flat", test_path=tmp_path / "classes"), 4, tmp_path / "out")


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "val", "labels"), ("training", "validation")])
def test_the_root_of_a_set_is_refused_with_what_to_write(tmp_path, names):
    for name in names:
        write_folder(tmp_path / "in" / name, {"cat": 3})
    with pytest.raises(DataError) as e:
        build_dataset(folder(tmp_path / "in"), 4, tmp_path / "out")
    assert "which are splits and no classes; write path: " in str(e.value)
    assert f"path: {tmp_path / 'in' / names[0]}, test_path: {tmp_path / 'in' / names[1]}" in str(e.value)
    assert not (tmp_path / "out").exists()


def test_a_class_may_be_called_train(tmp_path):
    assert list_images(write_folder(tmp_path / "in", {"train": 2, "bus": 2})).classes == ["bus", "train"]


def test_linked_class_folders_and_files_are_followed_and_no_image_is_there_twice(tmp_path):
    write_folder(tmp_path / "elsewhere", {"dog": 3})
    root = write_folder(tmp_path / "in", {"cat": 3})
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (root / "eel").mkdir()
    (root / "eel" / "link.png").symlink_to(root / "cat" / "000.png")
    (root / "eel" / "back").symlink_to(root)
    listing = list_images(root)
    assert [f"{name}/{path.name}" for name, path in listing.files if name != "eel"] == [
        f"{name}/00{i}.png" for name in ("cat", "dog") for i in range(3)
    ]
    assert not [path for name, path in listing.files if name == "eel"]
    assert listing.left_out["other names of a file that was taken"] >= 1


def test_a_link_back_to_a_folder_above_ends(tmp_path):
    root = write_folder(tmp_path / "in", {"cat": 3})
    (root / "cat" / "again").symlink_to(root / "cat")
    listing = list_images(root)
    assert len(listing.files) == 3
    assert listing.left_out == {"links to a folder above": 1}


def test_an_image_in_both_splits_is_refused(tmp_path):
    write_folder(tmp_path / "train", {"cat": 20})
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat" / "other.png").symlink_to(tmp_path / "train" / "cat" / "003.png")
    with pytest.raises(DataError, match=r"other\.png and .*003\.png are one file"):
        build_dataset(folder(tmp_path / "train", test_path=tmp_path / "test"), 4, tmp_path / "out")


def test_images_without_extension_are_taken(tmp_path):
    root = write_folder(tmp_path / "in", {"cat": 20})
    write(root / "cat" / "photo", encode(pixels(3)))
    assert build_dataset(folder(root), 4, tmp_path / "out").n_images == 21


@pytest.mark.parametrize("where", ["file", "folder"])
def test_names_that_are_no_text_are_named(tmp_path, where):
    root = write_folder(tmp_path / "in", {"cat": 3})
    bad = os.fsdecode("für".encode("latin-1"))
    write(root / "cat" / f"{bad}.png" if where == "file" else root / bad / "a.png", encode(pixels(1)))
    with pytest.raises(DataError, match=r"f\\xfcr.*the name is no UTF-8 \(.* such names\); rename them") as e:
        build_dataset(folder(root), 4, tmp_path / "out")
    assert str(e.value).isascii()


def test_a_lab_picture_to_be_grey_is_a_bad_image(tmp_path):
    root = write_folder(tmp_path / "in", {"cat": 20})
    lab = Image.new("LAB", (8, 8))
    lab.save(root / "cat" / "lab.tiff")
    with pytest.raises(DataError, match=r"lab\.tiff: the TIFF pixels of mode LAB cannot be converted"):
        build_dataset(folder(root, channels="grey"), 4, tmp_path / "out")
    manifest = build_dataset(folder(root, channels="grey", on_bad_image="skip"), 4, tmp_path / "out")
    assert len(manifest.skipped) == 1


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
    root = write_folder(tmp_path / "in", {"cat": 20})
    with open(root / "cat" / "huge.png", "wb") as f:
        f.truncate(1 << 40)  # a hole: no block is written
    with pytest.raises(DataError, match=r"huge\.png: the file has 1,099,511,627,776 bytes, more than any image"):
        build_dataset(folder(root), 4, tmp_path / "out")


def test_the_artefact_goes_where_a_link_leads_or_into_a_folder_that_is_there(tmp_path):
    root = write_folder(tmp_path / "in", {"cat": 20})
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "not_yet")
    for out in ("link", "dangling"):
        build_dataset(folder(root), 4, tmp_path / out)
        assert (tmp_path / out).is_symlink()
        assert len(list((tmp_path / out).resolve().iterdir())) == 2
    assert read_manifest(tmp_path / "real") == read_manifest(tmp_path / "not_yet")

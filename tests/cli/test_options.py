"""Options and the environment are validated like params.yaml; what the system refuses is told to a person."""

import errno
from importlib import import_module

import pytest
from safetensors import SafetensorError

from lgmamba.cli.options import told_of_system, told_of_tensors
from lgmamba.config.base import ConfigError
from lgmamba.devices import torch_device
from lgmamba.train.checkpoint import load_model
from tests.data.samples import write_folder
from tests.workflow.checkouts import ROOT

EVERY_COMMAND_WITH_A_DEVICE = ("train", "reconstruct", "remedy", "probes", "show")


@pytest.mark.parametrize("device", ["cuda:1", "gpu", "mps", "CPU", ""])
@pytest.mark.parametrize("command", EVERY_COMMAND_WITH_A_DEVICE)
def test_a_device_that_does_not_exist_is_refused(lgmamba, command, device):
    ended = lgmamba(command, "--device", device)
    assert ended.code == 2
    for part in ("--device", "'auto'", "'cpu'", "'cuda'"):
        assert part in ended.err


@pytest.mark.parametrize("device", ["cuda:1", "gpu", "mps"])
def test_no_function_takes_such_a_device_for_the_cpu(device):
    with pytest.raises(ConfigError, match=f"device: found '{device}', expected one of auto, cpu, cuda"):
        torch_device(device)


@pytest.mark.parametrize("workers", ["-3", "0", "1000000", "many"])
def test_a_number_of_workers_that_cannot_be_is_refused(lgmamba, workers):
    ended = lgmamba("data", "--config", "x", "--out", "y", "--workers", workers)
    assert ended.code == 2
    assert "--workers" in ended.err


def test_a_wrong_word_in_LGMAMBA_LOG_is_named(lgmamba, monkeypatch):
    monkeypatch.setenv("LGMAMBA_LOG", "loud")
    ended = lgmamba("show", "gone.yaml")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "error: LGMAMBA_LOG: found 'loud', expected one of debug, info, warning, error, critical\n"


def test_a_figure_that_does_not_exist_is_named(lgmamba, tmp_path):
    lgmamba("show", ROOT / "params.yaml")
    ended = lgmamba("figure", "curve", "--study", tmp_path, "--frames", tmp_path, "--out", tmp_path)
    assert ended.code == 1 and "Traceback" not in ended.err


def test_missing_images_are_noted_before_any_job(lgmamba, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path, {"photos": 2})
    source = "data: {source: {kind: image_folder, path: %s}, image_size: 8}, outputs: {data: data/none}"
    for path, note in (
        ("photo", "note: data.source: photo does not exist (looked from "),
        ("photos", ""),
        ("hf://x", ""),
    ):
        kind = source if not path.startswith("hf") else source.replace("image_folder", "parquet")
        kind = kind.replace("path: %s", "path: %s, image_column: a, label_column: null" if "hf" in path else "path: %s")
        ended = lgmamba("show", ROOT / "params.yaml", "--override", "{" + kind % f'"{path}"' + "}")
        assert ended.code == 0, ended.err
        assert ended.err.startswith(note) and bool(ended.err) == bool(note)
    for path, note in (("null", ""), ("font", "note: data.source: font does not exist")):
        glyphs = f"{{data: {{source: {{kind: glyphs, path: {path}}}}}}}"
        told = lgmamba("show", ROOT / "params.yaml", "--override", glyphs).err
        assert told.startswith(note) and bool(told) == bool(note)
    assert (
        "did you mean photos?" in lgmamba("show", ROOT / "params.yaml", "--override", "{" + source % "photo" + "}").err
    )
    (tmp_path / "photos.zip").write_bytes(b"")
    told = lgmamba("show", ROOT / "params.yaml", "--override", "{" + source % "photos.zip" + "}").err
    assert "photos.zip is a file (looked from " in told and "did you mean" not in told
    (tmp_path / "photos.zip").write_bytes(b"")
    told = lgmamba("show", ROOT / "params.yaml", "--override", "{" + source % "photos.zip" + "}").err
    assert "photos.zip is a file (looked from " in told and "did you mean" not in told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: Permission denied; look at the permissions"),
        (OSError(errno.ENOSPC, "No space left on device"), "writing: No space left on device; make room, and type"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), "a -> b: Invalid cross-device link"),
        (OSError(errno.EROFS, "Read-only", "a/.b.yaml.123.part"), "a/b.yaml: Read-only; name a place"),
        (OSError(errno.EXDEV, "Cross-device", "a/.b.123.part", None, "a/b"), "a/b: Cross-device"),
        (OSError("something else"), None),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), None),
    ],
)
def test_what_the_system_refuses_is_told_with_its_file(error, told):
    found = told_of_system(error)
    assert found is None if told is None else found.startswith(told)


def test_a_disk_that_cannot_be_written_ends_with_one_line(lgmamba, monkeypatch, tmp_path):
    def refuse(*args):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path))

    monkeypatch.setattr(
        import_module("lgmamba.cli.new"), "write_atomic", refuse
    )  # the package has a function of that name
    monkeypatch.chdir(tmp_path)
    ended = lgmamba("new", "mine", "--params", ROOT / "params.yaml")
    assert (ended.code, ended.err) == (
        1,
        f"error: {tmp_path}: Read-only file system; name a place that can be written to\n",
    )


def test_a_full_disk_is_told_too_where_tensors_are_written(lgmamba, monkeypatch, tmp_path):
    def refuse(*args):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(import_module("lgmamba.cli.new"), "write_atomic", refuse)
    monkeypatch.chdir(tmp_path)
    ended = lgmamba("new", "mine", "--params", ROOT / "params.yaml")
    told = "a file of tensors: No space left on device; make room, and type the same command again"
    assert (ended.code, ended.err) == (1, f"error: {told}\n")
    assert told_of_tensors(SafetensorError("Error while deserializing header: incomplete metadata")) is None
    assert told_of_tensors(ValueError("I/O error: x (os error 28)")) is None


def test_a_folder_instead_of_a_checkpoint_is_answered_with_the_file_in_it(tmp_path):
    with pytest.raises(ConfigError, match=r"is a folder, expected a checkpoint: and none is in it"):
        load_model(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "model.safetensors").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "train"):
        with pytest.raises(ConfigError, match=r"is a folder, expected a checkpoint: name .*train/model\.safetensors"):
            load_model(str(folder))

"""Files are whole or absent, and keep their time stamp while their content stays."""

import os
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lgmamba.analysis.files import write_arrays
from lgmamba.files import atomic_path, file_digest, to_json, write_atomic, write_if_changed


def test_write_if_changed_keeps_the_time_stamp(tmp_path):
    path = tmp_path / "a" / "b.json"
    assert write_if_changed(path, "x")
    os.utime(path, (1, 1))
    assert not write_if_changed(path, "x")
    assert path.stat().st_mtime == 1
    assert write_if_changed(path, "y")
    assert path.read_text() == "y"


def test_an_error_leaves_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "a"
    write_atomic(path, b"old")
    with pytest.raises(RuntimeError), atomic_path(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_what_a_killed_process_left_goes_when_the_file_is_written_again(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = {
        "dead": f".a b.png.{dead.pid}.part",
        "at work": f".a b.png.{os.getppid()}.part",
        "no number": ".a b.png.x.part",
    }
    for name in names.values():
        (tmp_path / name).touch()
    write_atomic(tmp_path / "a b.png", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a b.png", names["at work"], names["no number"]}


def test_json_refuses_nan():
    assert to_json({"b": 1, "a": "ü"}) == '{\n "b": 1,\n "a": "ü"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(float("nan"))


def test_digest_is_that_of_the_content(tmp_path):
    write_atomic(tmp_path / "a", "x")
    write_atomic(tmp_path / "b", "x")
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b") != file_digest(__file__)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_says_who_may_read_a_file_whoever_writes_it(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "text", "x")
        with atomic_path(tmp_path / "tensors") as part:
            save_file({"x": torch.zeros(1)}, part)
        write_arrays({"x": np.zeros(1)}, tmp_path / "arrays")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}

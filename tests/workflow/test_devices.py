"""A process gets one GPU, and never one that another process holds."""

import multiprocessing
import os
import stat
import tempfile
import time
from pathlib import Path

import pytest

from lgmamba import devices


@pytest.fixture(autouse=True)
def release():
    yield
    while devices._held:
        devices._held.pop().release()


@pytest.mark.parametrize(
    "device, environ",
    [
        ("cpu", {"CUDA_VISIBLE_DEVICES": "0,1"}),
        ("auto", {"CUDA_VISIBLE_DEVICES": ""}),
        ("cuda", {"CUDA_VISIBLE_DEVICES": "3"}),
        ("auto", {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_ID": "7"}),
    ],
)
def test_nothing_is_claimed_where_there_is_no_choice(tmp_path, device, environ):
    before = dict(environ)
    assert devices.claim(device, environ, tmp_path) is None
    assert environ == before


def test_devices_are_counted_without_torch(tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert devices.gpus({}, tmp_path) == ["0", "1"]
    assert devices.gpus({"CUDA_VISIBLE_DEVICES": "1, 2"}, tmp_path) == ["1", "2"]
    assert devices.gpus({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) == []


def hold(folder: Path, seconds: float) -> str:
    environ = {"CUDA_VISIBLE_DEVICES": "0,1"}
    name = devices.claim("auto", environ, folder)
    assert environ["CUDA_VISIBLE_DEVICES"] == name
    sign = folder / f"{name} in use"
    sign.touch(exist_ok=False)  # nobody else is there
    time.sleep(seconds)
    sign.unlink()
    devices._held.pop().release()
    return name


def test_four_processes_on_two_devices_never_share_one(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        held = pool.starmap(hold, [(tmp_path, 0.3)] * 4)
    assert set(held) == {"0", "1"}


def test_several_jobs_share_a_device_only_where_that_is_said(tmp_path):
    environ = {"CUDA_VISIBLE_DEVICES": "0,1", "LGMAMBA_JOBS_PER_GPU": "2"}
    taken = [devices.claim("auto", dict(environ), tmp_path) for _ in range(4)]
    assert taken == ["0", "1", "0", "1"]
    with pytest.raises(ValueError, match="LGMAMBA_JOBS_PER_GPU: found 'two'"):
        devices.claim("auto", environ | {"LGMAMBA_JOBS_PER_GPU": "two"}, tmp_path)


def test_every_user_has_locks_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = devices.lock_folder()
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700
    assert devices.claim("auto", {"CUDA_VISIBLE_DEVICES": "0,1"}) == "0"
    assert list(mine.iterdir())
    monkeypatch.setattr(os, "getuid", lambda: mine.stat().st_uid + 1)
    other = tmp_path / mine.name.replace(f"-{mine.stat().st_uid}-", f"-{mine.stat().st_uid + 1}-")
    assert other != mine
    other.mkdir()
    with pytest.raises(PermissionError, match="belongs to another user"):
        devices.lock_folder()


@pytest.mark.parametrize("precision, allowed", [("fp32", False), ("tf32", True)])
def test_products_are_rounded_where_it_is_said_and_afterwards_as_before(precision, allowed):
    import torch

    places = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]
    with pytest.raises(RuntimeError, match="meanwhile"), devices.matrix_products(precision):
        assert [place.allow_tf32 for place in places] == [allowed, allowed]
        raise RuntimeError("meanwhile")
    assert [place.allow_tf32 for place in places] == before

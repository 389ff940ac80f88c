import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from lgmamba.data.build import build_dataset
from lgmamba.data.dataset import load_dataset
from lgmamba.data.errors import DataError
from tests.data.samples import config


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "artefact"
    build_dataset(config(max_images=50), 4, out)
    return out


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def test_load(folder):
    data = load_dataset(str(folder))
    assert data.images.shape == (50, 3, 8, 8) and data.codes.dtype == torch.uint8
    assert (data.id_hash >= 0).all() and len(data.id_hash.unique()) == 50


def edit(folder, **changes):
    values = json.loads((folder / "manifest.json").read_text()) | changes
    (folder / "manifest.json").write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def flip_a_bit(folder):
    (file,) = folder.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def cut(folder):
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])


DAMAGE = {
    "no folder": (shutil.rmtree, "no such folder"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "the folder has no manifest.json"),
    "torn manifest": (lambda f: (f / "manifest.json").write_text('{"format'), "is not JSON"),
    "a list": (lambda f: (f / "manifest.json").write_text("[]"), "has format and version None"),
    "another version": (lambda f: edit(f, version=99), "has format and version ('lgmamba-images', 99)"),
    "another format": (lambda f: edit(f, format="x"), "expected ('lgmamba-images', 1)"),
    "a key missing": (lambda f: edit(f, sha256=...), "is damaged at sha256"),
    "no tensors": (lambda f: next(f.glob("*.safetensors")).unlink(), "is missing, which manifest.json names"),
    "a flipped bit": (flip_a_bit, "is damaged: its SHA-256"),
    "cut": (cut, "is damaged: its SHA-256"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_artefact_is_refused_with_what_to_do(folder, kind):
    damage, message = DAMAGE[kind]
    damage(folder)
    with pytest.raises(DataError) as e:
        load_dataset(folder)
    assert message in str(e.value) and "lgmamba data" in str(e.value) and str(folder) in str(e.value)


def test_loading_needs_nothing_that_builds(folder):
    absent = ["polars", "pyarrow", "PIL", "sklearn", "rich", "yaml", "pandas", "scipy"]
    program = (
        "import sys\n"
        f"for name in {absent}: sys.modules[name] = None\n"
        "from lgmamba.data.dataset import load_dataset\n"
        f"print(len(load_dataset({str(folder)!r}).images))\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.stdout == "50\n", done.stderr

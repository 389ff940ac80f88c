"""The artefact on disk: a folder with `manifest.json` and the one tensor file that it names.

    manifest.json              what is in the file, how it was made, and the file's digest
    <first 16 hex>.safetensors images uint8 (N, C, H, W); labels int64 (N,); split uint8 (N,), codes into
                               `splits.SPLITS`; id_hash int64 (N,); mean_image float32 (C, H, W)

The tensor file is named by its own SHA-256, so a manifest can never meet another build's tensors. The manifest is put in
place last and in one step; who reads it sees the old artefact or the new one, whole. Nothing in either file depends on
when or where it was made.
"""

import glob
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from lgmamba.config.base import Strict
from lgmamba.data.errors import DataError
from lgmamba.files import file_digest, to_json

FORMAT: Final = "lgmamba-images"
VERSION: Final = 1
"""Raised whenever the same configuration would give other tensors, or readers would misread them."""

MANIFEST = "manifest.json"
ARTEFACT = "artefact"


class SourceRecord(Strict):
    """One file, folder or package that images were read from.

    Attributes:
        name: as the configuration has it, wildcards filled in.
        official_split: "test" for test_path.
        n_images: images read from it.
        n_bytes, sha256: of the file; of a folder, over the files read, their names and digests; of digits, over its arrays.
        url, etag: where a downloaded file came from, and the version its host stated.
        left_out: of a folder, how many files (or whole folders) were not taken, by reason.
    """

    name: str
    official_split: Literal["train", "test"]
    n_images: int
    n_bytes: int | None = None
    sha256: str | None = None
    url: str | None = None
    etag: str | None = None
    left_out: dict[str, int] | None = Field(None, exclude_if=lambda counts: not counts)


class Skipped(Strict):
    """One image left out because it could not be used."""

    file: str
    row: int | None
    reason: str


class Manifest(Strict):
    """What an artefact holds.

    Attributes:
        file, sha256: the tensor file's name and full digest.
        n_images: all images kept; `counts` has them per split.
        image_shape: channels, height, width.
        n_classes, class_names: labels are 0 .. n_classes - 1; names where the source knows them.
        mean_image: name of the tensor with the mean training image, (C, H, W), values 0 to 1.
        mean_pixel: its mean per channel, 0 to 1.
        sources: what was read, with digests.
        config: the data configuration, as validated.
        skipped: images left out, in the order of the source.
        versions: packages whose release may change a pixel.
    """

    format: Literal["lgmamba-images"] = FORMAT
    version: Literal[1] = VERSION
    file: str
    sha256: str
    n_images: int
    counts: dict[str, int]
    image_shape: tuple[int, int, int]
    n_classes: int
    class_names: list[str] | None
    mean_image: str
    mean_pixel: list[float]
    sources: list[SourceRecord]
    config: dict[str, Any]
    skipped: list[Skipped]
    versions: dict[str, str]


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A temporary folder with a subfolder `artefact` to fill: beside `out`, or in it where it is there, so on one file system.

    It is removed whatever happens; what a killed build left behind is removed by the next one.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; the data artefact is a folder, name another place")
    home = out if out.is_dir() else out.parent
    home.mkdir(parents=True, exist_ok=True)
    prefix = f".{out.name}.building-{socket.gethostname()}-"
    for left in home.glob(f"{glob.escape(prefix)}*"):
        if not _is_running(left.name.removeprefix(prefix).split("-")[0]):
            shutil.rmtree(left, ignore_errors=True)
    stage = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=home))
    try:
        (stage / ARTEFACT).mkdir()
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):  # not a name of ours, or another person's process
        return True
    return True


def write_tensors(stage: Path, tensors: dict[str, np.ndarray]) -> tuple[str, str]:
    """Write the tensor file into `stage`, under the name that its content gives it.

    Returns:
        file name, full SHA-256 in hex.
    """
    from safetensors.numpy import save_file

    unnamed = stage / ARTEFACT / "tensors"
    save_file(tensors, unnamed)
    digest = file_digest(unnamed)
    name = f"{digest[:16]}.safetensors"
    unnamed.rename(unnamed.with_name(name))
    return name, digest


def publish(stage: Path, manifest: Manifest, out: Path) -> None:
    """Move a finished artefact from `stage` to `out`, in one step where nothing is there.

    In a folder that is there already, with an older artefact perhaps, the tensors go first, then the manifest replaces the
    old one in one step, then old tensors go.
    """
    ready = stage / ARTEFACT
    (ready / MANIFEST).write_text(to_json(manifest.model_dump(mode="json")), encoding="utf-8")
    shutil.copymode(ready / MANIFEST, ready / manifest.file)  # safetensors writes files that only their owner may read
    if not out.exists():
        os.replace(ready, out)
        return
    os.replace(ready / manifest.file, out / manifest.file)
    os.replace(ready / MANIFEST, out / MANIFEST)
    for old in out.glob("[0-9a-f]" * 16 + ".safetensors"):
        if old.name != manifest.file:
            old.unlink()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artefact.

    Raises:
        DataError: no artefact there, a torn one, or one of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        why = "the folder has no manifest.json" if folder.is_dir() else "no such folder"
        raise DataError(f"no data artefact at {folder} ({why}); build it with `lgmamba data`")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as e:
        raise DataError(f"{path} is not JSON ({e}); build the artefact again with `lgmamba data`") from None
    found = (values.get("format"), values.get("version")) if isinstance(values, dict) else None
    if found != (FORMAT, VERSION):
        raise DataError(
            f"{path} has format and version {found}, expected {(FORMAT, VERSION)}; build it again with `lgmamba data`"
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as e:
        problem = e.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise DataError(f"{path} is damaged at {where}: {problem['msg']}; build it again with `lgmamba data`") from None


def check_tensors(folder: Path, manifest: Manifest) -> Path:
    """Path of the tensor file, once its digest is the manifest's (about 1 s per GB).

    Raises:
        DataError: the file is missing or its content is another.
    """
    path = folder / manifest.file
    if not path.is_file():
        raise DataError(f"{path} is missing, which {MANIFEST} names; build the artefact again with `lgmamba data`")
    digest = file_digest(path)
    if digest != manifest.sha256:
        raise DataError(
            f"{path} is damaged: its SHA-256 starts with {digest[:16]}, expected {manifest.sha256[:16]}; build it again with `lgmamba data`"
        )
    return path

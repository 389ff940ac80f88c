"""Writing files so that nobody ever reads half of one, and digests of what they hold.

A half-written file would be taken for whole after a kill: hence `write_atomic`.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from stat import S_IMODE
from typing import Any


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; renamed to `path` at the end, removed after an error.

    with atomic_path("frame.parquet") as part:
        frame.write_parquet(part)

    Who may read the file is what the umask says, whatever the writer sets (safetensors makes files for their owner alone).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove_parts_of_the_dead(path)
    try:
        part.touch()
        mode = S_IMODE(part.stat().st_mode)
        yield part
        part.chmod(mode)
        with open(part, "rb+") as f:
            os.fsync(f.fileno())  # else a crash of the machine may leave the new name on empty content
        os.replace(part, path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _remove_parts_of_the_dead(path: Path) -> None:
    """What processes of this machine that were killed left of a file that is now written again."""
    for part in path.parent.glob(f".{escape(path.name)}.*.part"):
        with suppress(ValueError, PermissionError, FileNotFoundError):  # no number of a process, somebody else's, gone
            try:
                os.kill(int(part.suffixes[-2][1:]), 0)
            except (ProcessLookupError, OverflowError):
                part.unlink()


def remove_parts(folder: str | Path) -> None:
    """Remove what killed processes left of `atomic_path` there; only for who alone writes in the folder."""
    for part in Path(folder).glob(".*.part"):
        part.unlink(missing_ok=True)


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write a whole file, or leave what was there; folders are made."""
    with atomic_path(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def write_if_changed(path: str | Path, content: str | bytes) -> bool:
    """`write_atomic`, unless the file holds exactly this already; says whether it wrote."""
    data = content.encode() if isinstance(content, str) else content
    path = Path(path)
    if path.is_file() and path.read_bytes() == data:
        return False
    write_atomic(path, data)
    return True


def to_json(value: Any) -> str:
    """JSON as this project stores it: indented, keys in the given order, no NaN, a newline at the end."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of plain values as `to_json` writes them, hexadecimal."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()

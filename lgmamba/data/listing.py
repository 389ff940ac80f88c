"""What the images of a source are, before any is read: the files, and digests of names, sizes, times and content.

So that an image that is added, replaced or taken away is noticed, wherever the folder lies. Files behind https:// and
hf:// addresses are not looked at.
"""

import hashlib
import os
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from lgmamba.config.data import DataConfig
from lgmamba.data.errors import DataError
from lgmamba.data.local import is_remote
from lgmamba.files import file_digest
from lgmamba.records import Record


def source_files(config: DataConfig) -> list[Path]:
    """Every local file that a source names: those below its folders, and those that its patterns match; sorted."""
    given = [getattr(config.source, name, None) or [] for name in ("path", "test_path")]
    named = [p for paths in given for p in ([paths] if isinstance(paths, str) else paths) if not is_remote(p)]
    patterns = [os.path.expanduser(p) for p in named]
    found = {Path(p) for p in patterns for p in ([p] if os.path.exists(p) else glob(p, recursive=True))}
    return sorted({file for path in found for file in (_below(path) if path.is_dir() else [path])}, key=os.fsencode)


def seen_digest(files: list[Path]) -> str:
    """Digest of names, sizes and time stamps: equal while nothing was touched, and cheap."""
    digest = hashlib.sha256()
    for path in files:
        try:
            stat = path.stat()
        except OSError:  # a link to nothing
            continue
        digest.update(os.fsencode(path) + b"\0%d %d\n" % (stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()


def content_digest(files: list[Path]) -> str:
    """Digest of names and content: equal while the images are, whatever their time stamps.

    Raises:
        DataError: a file cannot be read; names it.
    """
    digest = hashlib.sha256()
    for path in files:
        try:
            digest.update(os.fsencode(path) + b"\0" + file_digest(path).encode() + b"\n")
        except FileNotFoundError:  # a link to nothing
            continue
        except OSError as e:
            raise DataError(f"{str(path)!r} cannot be read: {e.strerror}") from None
    return digest.hexdigest()


def images_digest(config: DataConfig, record: Record | None) -> str:
    """Digest of the content of a source; files whose sizes and times are those of the record are not read again."""
    files = source_files(config)
    if record is not None and record.seen and record.seen == seen_digest(files):
        return record.key.inputs.get("images", "")
    return content_digest(files)


def _below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Files anywhere below; links are followed, but not back to a folder above. A folder that cannot be listed has none."""
    here = os.path.realpath(folder)
    try:
        entries = [] if here in above else list(os.scandir(folder))
    except OSError:  # the stage says so
        return
    for entry in entries:
        yield from _below(Path(entry), (*above, here)) if entry.is_dir() else [Path(entry)]

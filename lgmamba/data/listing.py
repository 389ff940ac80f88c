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
from lgmamba.files import file_digest
from lgmamba.records import Record


def source_files(config: DataConfig) -> list[Path]:
    """Every local file that a source names: those below its folders, and those that its patterns match; sorted."""
    given = [getattr(config.source, name, None) or [] for name in ("path", "test_path")]
    patterns = [p for paths in given for p in ([paths] if isinstance(paths, str) else paths) if "://" not in p]
    found = {Path(p) for pattern in patterns for p in (glob(pattern) or ([pattern] if os.path.exists(pattern) else []))}
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


def _below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (Path(place, name) for name in names)

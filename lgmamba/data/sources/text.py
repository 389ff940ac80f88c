"""Text as bytes: windows of files, each a picture of one row, (1, 1, W) uint8, whose values are the bytes.

By default of Python's own standard library, which is wherever this package runs (Python Software Foundation License); so the text depends on
Python's version, and the manifest says what was read.
"""

import hashlib
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lgmamba.config.data import TextSource
from lgmamba.data.artefact import SourceRecord
from lgmamba.data.decode import Payload
from lgmamba.data.errors import DataError
from lgmamba.data.sources import Index, Place

FOREIGN = ("site-packages", "dist-packages", "__pycache__")
"""Folders below the standard library that are no part of it."""


class Text:
    """Windows of text files, side by side; what is left at the end of a file is not used. See `lgmamba.data.sources.ImageSource`."""

    packages = ()

    def __init__(self, config: TextSource):
        self.config = config
        self.folder = Path(sysconfig.get_path("stdlib") if config.path is None else config.path)
        self.name = f"python {platform.python_version()} standard library" if config.path is None else config.path
        self._digest, self._bytes = hashlib.sha256(), 0

    def index(self) -> Index:
        """Windows named <file>#<number>; a file's windows share a split."""
        if not self.folder.is_dir():
            raise DataError(f"data.source.path: found {str(self.folder)!r}, expected: a folder of text files")
        width, named = self.config.window, {}
        for path in sorted(self.folder.rglob(self.config.pattern)):
            inside = path.relative_to(self.folder)
            if path.is_file() and not set(inside.parts) & set(FOREIGN):
                named[inside.as_posix()] = path.stat().st_size // width
        self._windows = [(name, k) for name, n in named.items() for k in range(n)]
        if not self._windows:
            raise DataError(
                f"{self.folder}: found no file {self.config.pattern} of {width:,} bytes or more, expected: some; lower data.source.window"
            )
        n = len(self._windows)
        return Index(
            [f"{name}#{k}" for name, k in self._windows],
            np.zeros(n, np.int64),
            np.zeros(n, bool),
            lambda row: Place(self._windows[row][0], self._windows[row][1]),
            None,
            groups=[name for name, _ in self._windows],
        )

    def read(self, wanted: np.ndarray) -> Iterator[tuple[int, Payload]]:
        width, at, content = self.config.window, None, b""
        for row in np.flatnonzero(wanted).tolist():
            name, k = self._windows[row]
            if name != at:
                at, content = name, (self.folder / name).read_bytes()
            piece = content[k * width : (k + 1) * width]
            if len(piece) < width:
                raise DataError(
                    f"{self.folder / name}: has become shorter while it was read; expected a file that stays as it is"
                )
            self._digest.update(piece)
            self._bytes += width
            yield row, np.frombuffer(piece, np.uint8)[None]

    def digests(self, wanted: np.ndarray) -> list[SourceRecord]:
        digest, n = self._digest.hexdigest(), int(wanted.sum())
        return [SourceRecord(name=self.name, official_split="train", n_images=n, n_bytes=self._bytes, sha256=digest)]

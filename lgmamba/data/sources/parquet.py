"""Parquet files with encoded images: the layout of data sets on public hubs. Local paths, globs, https:// and hf://."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from lgmamba.config.data import ParquetSource
from lgmamba.data.artefact import SourceRecord
from lgmamba.data.decode import Payload
from lgmamba.data.errors import DataError
from lgmamba.data.local import find_local, is_remote
from lgmamba.data.sources import Index, Place, remote
from lgmamba.data.sources.parquet_readers import (
    BINARY,
    BINARY_STRUCT,
    INTEGER,
    Reader,
    class_names,
    default_reader,
    reader_errors,
)
from lgmamba.files import file_digest

BOMB_BYTES, BOMB_RATIO = 64 << 20, 100
"""A column that grows to more than so many bytes, and so many times its size in the file: encoded images hardly shrink."""


@dataclass(frozen=True)
class InputFile:
    """One Parquet file: `path` is on this machine, `name` is what the person wrote or its address."""

    path: Path
    name: str
    is_test: bool
    url: str | None = None
    etag: str | None = None


class Parquet:
    """Parquet files as an image source; see `lgmamba.data.sources.ImageSource`.

    An image's id is `<file name>:<row>`, without the folder: moving the files moves no image to another split. Only where files of
    one split have equal names, as many folders are part of it as make them differ.

    Args:
        config: paths and columns.
        scratch: folder for downloads.
        progress: show a bar while downloading; None: on a terminal.
        reader: how files are read; None: polars if installed, else pyarrow.
    """

    def __init__(self, config: ParquetSource, scratch: Path, progress: bool | None, reader: Reader | None = None):
        self.config, self.scratch, self.progress = config, scratch, progress
        try:
            self.reader = reader or default_reader()
        except ImportError:
            raise DataError("source parquet: neither polars nor pyarrow is installed; pip install polars") from None
        self.packages = (self.reader.package,)

    def index(self) -> Index:
        self.files = self._find(self.config.path, is_test=False) + self._find(self.config.test_path, is_test=True)
        _reject_duplicates(self.files)
        names = [self._check(file) for file in self.files]
        labels = [self._labels(file) for file in self.files]
        self.lengths = [len(values) for values in labels]
        for is_test, key in ((False, "path"), (True, "test_path")):
            group = [i for i, file in enumerate(self.files) if file.is_test == is_test]
            if group and not sum(self.lengths[i] for i in group):
                found = ", ".join(self.files[i].name for i in group)
                raise DataError(f"{found}: the table is empty, expected rows with images; check data.source.{key}")
        names_in_ids = _names_in_ids(self.files)
        return Index(
            ids=[f"{name}:{row}" for name, n in zip(names_in_ids, self.lengths, strict=True) for row in range(n)],
            labels=np.concatenate(labels),
            is_test=np.repeat([file.is_test for file in self.files], self.lengths),
            place=self._place,
            class_names=names[0],
        )

    def read(self, wanted: np.ndarray) -> Iterator[tuple[int, Payload]]:
        start = 0
        for file, n in zip(self.files, self.lengths, strict=True):
            if wanted[start : start + n].any():
                yield from self._read_file(file, start, wanted)
            start += n

    def digests(self, wanted: np.ndarray) -> list[SourceRecord]:
        records, start = [], 0
        for file, n in zip(self.files, self.lengths, strict=True):
            records.append(
                SourceRecord(
                    name=file.name,
                    official_split="test" if file.is_test else "train",
                    n_images=int(wanted[start : start + n].sum()),
                    n_bytes=file.path.stat().st_size,
                    sha256=file_digest(file.path),
                    url=file.url,
                    etag=file.etag,
                )
            )
            start += n
        return records

    def _find(self, paths: str | list[str] | None, is_test: bool) -> list[InputFile]:
        patterns = [paths] if isinstance(paths, str) else paths or []
        found = []
        for pattern in patterns:
            if is_remote(pattern):
                for file in remote.find(pattern):
                    path, etag = remote.download(file, self.scratch, self.progress)
                    found.append(InputFile(path, file.name, is_test, file.url, etag))
            else:
                found += [InputFile(Path(path), path, is_test) for path in find_local(pattern)]
        return found

    def _check(self, file: InputFile) -> list[str] | None:
        """Columns and their types; returns the class names, where the file has them."""
        try:
            schema = self.reader.schema(file.path)
            metadata = self.reader.metadata(file.path)
        except reader_errors() as e:
            raise DataError(
                f"{file.name} is not a readable Parquet file ({_first_line(e)}); name .parquet files only"
            ) from None
        for key, column, understood in (
            ("image_column", self.config.image_column, (BINARY, BINARY_STRUCT)),
            ("label_column", self.config.label_column, (INTEGER,)),
        ):
            if column is None:
                continue
            if column not in schema:
                near = difflib.get_close_matches(column, schema, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise DataError(
                    f"{file.name} has no column {column!r}; {hint}Its columns: {', '.join(schema)}. Set data.source.{key}"
                )
            if schema[column] not in understood:
                raise DataError(
                    f"{file.name}: column {column!r} has type {schema[column]}, expected {' or '.join(understood)}; set data.source.{key}"
                )
        _refuse_bomb(file, self.config.image_column)
        return class_names(metadata, self.config.label_column)

    def _labels(self, file: InputFile) -> np.ndarray:
        try:
            if self.config.label_column is None:
                return np.zeros(self.reader.length(file.path), np.int64)
            values, nulls = self.reader.integers(file.path, self.config.label_column)
        except reader_errors() as e:  # a damaged page, or values beyond int64
            raise DataError(
                f"{file.name}: column {self.config.label_column!r} cannot be read ({_first_line(e)})"
            ) from None
        if nulls.any():
            row = int(np.flatnonzero(nulls)[0])
            raise DataError(
                f"{file.name}, row {row}: the label is null ({nulls.sum()} such rows), expected an integer; remove or label these rows"
            )
        return values

    def _read_file(self, file: InputFile, start: int, wanted: np.ndarray) -> Iterator[tuple[int, Payload]]:
        position = start
        try:
            for batch in self.reader.images(file.path, self.config.image_column):
                for encoded in batch:
                    if wanted[position]:
                        yield position, encoded
                    position += 1
        except reader_errors() as e:  # a damaged page
            raise DataError(
                f"{file.name}, at or after row {position - start}: the file is damaged ({_first_line(e)})"
            ) from None

    def _place(self, position: int) -> Place:
        i = int(np.searchsorted(np.cumsum(self.lengths), position, side="right"))
        return Place(self.files[i].name, position - sum(self.lengths[:i]))


def _refuse_bomb(file: InputFile, column: str) -> None:
    """Before a page is read: a column that declares far more than the file holds."""
    try:
        import pyarrow.parquet as pq
    except ImportError:  # polars alone: what it cannot hold is told as damaged
        return
    about = pq.read_metadata(file.path)
    for group in (about.row_group(i) for i in range(about.num_row_groups)):
        chunks = [group.column(i) for i in range(group.num_columns)]
        here = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] == column]
        grown, stored = (sum(getattr(c, f"total_{kind}compressed_size") for c in here) for kind in ("un", ""))
        if grown > BOMB_BYTES and grown > BOMB_RATIO * stored:
            raise DataError(
                f"{file.name}: column {column!r} declares {grown:,} bytes in {stored:,}, which no images do: a decompression bomb"
            )


def _names_in_ids(files: list[InputFile]) -> list[str]:
    """The file's name, with as many folders before it as tell the files of one split apart."""
    names = [""] * len(files)
    for is_test in (False, True):
        group = [i for i, file in enumerate(files) if file.is_test == is_test]
        parts = {i: PurePosixPath(files[i].name).parts for i in group}
        depth = 1
        while len({parts[i][-depth:] for i in group}) < len(group):
            depth += 1  # ends, since no file is named twice
        for i in group:
            names[i] = "/".join(parts[i][-depth:])
    return names


def _reject_duplicates(files: list[InputFile]) -> None:
    """The same file twice would put an image in two rows, perhaps one to train on and one to test on."""
    seen: set[str] = set()
    for file in files:
        key = file.url or str(file.path.resolve())
        if key in seen:
            raise DataError(
                f"{file.name} is named twice in data.source.path and test_path; every image may be there once"
            )
        seen.add(key)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]

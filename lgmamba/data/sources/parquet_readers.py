"""Two readers of one local Parquet file, with the same answers: polars, and pyarrow where polars is not installed.

Both return plain bytes and numpy arrays, so nothing above them knows which one ran. Images come in batches of rows: what is
held at a time does not grow with the file.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

BATCH_ROWS = 512

BINARY, BINARY_STRUCT, INTEGER = "binary", "struct with binary `bytes`", "integer"
"""The column types that are understood, as `Reader.schema` names them; any other type keeps its own name."""


class Reader(Protocol):
    """What the Parquet source needs of a reader. Errors of the library below pass through."""

    package: str

    def schema(self, path: Path) -> dict[str, str]:
        """Column name -> type, one of the names above if understood."""
        ...

    def metadata(self, path: Path) -> dict[str, str]:
        """Key-value texts in the file's footer."""
        ...

    def integers(self, path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Values (N,) int64 with 0 for null, and nulls (N,) bool."""
        ...

    def length(self, path: Path) -> int:
        """Rows of the file."""
        ...

    def images(self, path: Path, column: str) -> Iterator[Iterator[bytes | str | None]]:
        """Encoded images of a binary or struct column, batch by batch, in row order; one at a time is made a Python object.

        A text where there are no bytes but the struct has a `path`.
        """
        ...


class PolarsReader:
    """Reads with polars, whose streaming engine hands out batches."""

    package = "polars"

    def schema(self, path: Path) -> dict[str, str]:
        import polars as pl

        return {
            name: self._kind(pl, dtype) for name, dtype in pl.scan_parquet(path, glob=False).collect_schema().items()
        }

    @staticmethod
    def _kind(pl: Any, dtype: Any) -> str:
        if dtype.is_integer():
            return INTEGER
        if dtype == pl.Binary:
            return BINARY
        if isinstance(dtype, pl.Struct) and any(f.name == "bytes" and f.dtype == pl.Binary for f in dtype.fields):
            return BINARY_STRUCT
        return str(dtype)

    def metadata(self, path: Path) -> dict[str, str]:
        import polars as pl

        return pl.read_parquet_metadata(path)

    def integers(self, path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
        import polars as pl

        values = pl.scan_parquet(path, glob=False).select(column).collect()[column].cast(pl.Int64)
        return values.fill_null(0).to_numpy(), values.is_null().to_numpy()

    def length(self, path: Path) -> int:
        import polars as pl

        return pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()

    def images(self, path: Path, column: str) -> Iterator[Iterator[bytes | str | None]]:
        import polars as pl

        encoded, named = pl.col(column), pl.lit(None, pl.String)
        if self.schema(path)[column] == BINARY_STRUCT:
            struct = pl.scan_parquet(path, glob=False).collect_schema()[column]
            fields = {f.name: f.dtype for f in struct.fields} if isinstance(struct, pl.Struct) else {}
            named = encoded.struct.field("path") if fields.get("path") == pl.String else named
            encoded = encoded.struct.field("bytes")
        frame = pl.scan_parquet(path, glob=False).select(encoded.alias("image"), named.alias("path"))
        for batch in frame.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            images, paths = (
                batch["image"],
                batch["path"],
            )  # views into the file's pages; by index, each is copied when asked for
            yield (image if (image := images[i]) is not None else paths[i] for i in range(len(batch)))


class PyArrowReader:
    """Reads with pyarrow."""

    package = "pyarrow"

    def schema(self, path: Path) -> dict[str, str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        return {field.name: self._kind(pa, field.type) for field in pq.read_schema(path)}

    @staticmethod
    def _kind(pa: Any, dtype: Any) -> str:
        def is_bytes(t: Any) -> bool:
            return pa.types.is_binary(t) or pa.types.is_large_binary(t) or pa.types.is_fixed_size_binary(t)

        if pa.types.is_integer(dtype):
            return INTEGER
        if is_bytes(dtype):
            return BINARY
        if pa.types.is_struct(dtype) and any(f.name == "bytes" and is_bytes(f.type) for f in dtype):
            return BINARY_STRUCT
        return str(dtype)

    def metadata(self, path: Path) -> dict[str, str]:
        import pyarrow.parquet as pq

        found = pq.read_metadata(path).metadata or {}
        return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in found.items()}

    def integers(self, path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
        import pyarrow.parquet as pq

        values = pq.ParquetFile(path).read(columns=[column])[column].cast("int64")
        nulls = values.is_null().to_numpy()
        return values.fill_null(0).to_numpy(), nulls

    def length(self, path: Path) -> int:
        import pyarrow.parquet as pq

        return pq.read_metadata(path).num_rows

    def images(self, path: Path, column: str) -> Iterator[Iterator[bytes | str | None]]:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            dtype = file.schema_arrow.field(column).type
            nested = self.schema(path)[column] == BINARY_STRUCT
            named = nested and any(
                f.name == "path" and (pa.types.is_string(f.type) or pa.types.is_large_string(f.type)) for f in dtype
            )
            columns = [f"{column}.bytes", *([f"{column}.path"] if named else [])] if nested else [column]
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                values = batch.column(0)
                images = pc.struct_field(values, "bytes") if nested else values
                paths = pc.struct_field(values, "path") if named else pa.nulls(len(values))
                pairs = zip(images, paths, strict=True)
                yield (image.as_py() if image.is_valid else path.as_py() for image, path in pairs)


def default_reader() -> Reader:
    """Polars, or pyarrow on a machine that does not have it.

    Raises:
        ImportError: neither is installed.
    """
    try:
        import polars  # noqa: F401
    except ImportError:
        import pyarrow  # noqa: F401

        return PyArrowReader()
    return PolarsReader()


def reader_errors() -> tuple[type[BaseException], ...]:
    """What a damaged file may raise: each library has its own errors, and a panic of polars is no Exception."""
    try:
        from polars.exceptions import PanicException
    except ImportError:
        return (Exception,)
    return (Exception, PanicException)


def class_names(metadata: dict[str, str], label_column: str | None) -> list[str] | None:
    """Class names, where the file's footer has them as public hubs write them (key `huggingface`, ClassLabel feature)."""
    try:
        names = json.loads(metadata["huggingface"])["info"]["features"][label_column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) and names else None

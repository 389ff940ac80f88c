"""Tidy frames on their way to disk, from machines that have pyarrow but no polars (a bare GPU machine)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lgmamba.files import atomic_path


def write_columns(path: Path, columns: Mapping[str, Any], rows: int | None = None) -> None:
    """Columns of equal length as one Parquet file; whole or absent.

    Args:
        path: the file.
        columns: name -> array or sequence of values; a plain str or number is repeated for every row. None inside a list is a null.
        rows: number of rows, needed only where every column is a plain value.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    lengths = {len(v) for v in columns.values() if not isinstance(v, str | int | float)}
    rows = rows if not lengths else lengths.pop()
    assert not lengths and rows is not None, "columns differ in length"
    arrays = {}
    for name, values in columns.items():
        if isinstance(values, str | int | float):
            values = pa.repeat(pa.scalar(values), rows)
        array = pa.array(values) if not isinstance(values, pa.Array) else values
        arrays[name] = array
    with atomic_path(path) as part:
        floats = [name for name, array in arrays.items() if pa.types.is_floating(array.type)]
        pq.write_table(
            pa.table(arrays),
            part,
            compression="zstd",
            use_dictionary=[name for name in arrays if name not in floats],
            use_byte_stream_split=floats,  # first bytes with first bytes, which are alike
        )

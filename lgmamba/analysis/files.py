"""Frames, arrays and JSON on disk; each file is whole or absent."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from lgmamba.files import atomic_path, to_json, write_atomic

ENGINE: Final = "in-memory"
"""Of polars, for means: it adds up in the order of the rows. The streaming engine does not, and means differ in their last bits."""


def error_over_seeds(errors: pl.LazyFrame, keys: Sequence[str]) -> pl.DataFrame:
    """One row for each seed (mse, count) -> <keys>, mse, its lowest and highest over seeds, mean count, n_seeds; sorted by the keys."""
    return means_over_seeds(errors, keys).collect(engine=ENGINE).sort(keys)


def means_over_seeds(errors: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
    """What `error_over_seeds` collects: means that are added up in the order of the rows.

    Were the groups' own order left open, polars would leave out a sort that stands before, and means would differ in their last bits.
    """
    return errors.group_by(keys, maintain_order=True).agg(
        mse=pl.col("mse").mean(),
        mse_lo=pl.col("mse").min(),
        mse_hi=pl.col("mse").max(),
        count=pl.col("count").mean(),
        n_seeds=pl.len(),
    )


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """A frame as Parquet; float32 in lists, which are measurements and many, with first bytes beside first bytes, which are alike."""
    measured = [name for name, kind in frame.schema.items() if kind == pl.List(pl.Float32)]
    others = [name for name in frame.columns if name not in measured]
    split = {"use_byte_stream_split": [f"{name}.list.element" for name in measured], "use_dictionary": others}
    with atomic_path(path) as part:
        if measured:
            frame.write_parquet(part, use_pyarrow=True, pyarrow_options=split)
        else:
            frame.write_parquet(part)


def write_json(values: Any, path: Path) -> None:
    """Plain values as JSON; NaN and infinity are refused."""
    write_atomic(path, to_json(values))


def write_arrays(arrays: dict[str, np.ndarray], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Named arrays as safetensors."""
    from safetensors.numpy import save_file

    with atomic_path(path) as part:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, part, metadata=metadata)


def read_json(path: Path) -> Any:
    """Plain values from a JSON file.

    Raises:
        ValueError: names the file that is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as e:
        raise ValueError(f"{path} is not JSON: {e}") from None

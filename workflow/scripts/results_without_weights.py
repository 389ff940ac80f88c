"""Carry a study's results from the machine that made them to another one, without weights, and small.

    python workflow/scripts/results_without_weights.py pack --results results/cifar10 --to out --mb 15
    python workflow/scripts/results_without_weights.py unpack --results results/cifar10 --from out

pack writes <results>.<number>.tar files of at most --mb megabytes, each with whole runs. Of steps.parquet the measured columns
travel, in the order of its keys and without what is repeated; unpack makes the whole frame of them again. `evaluate`, figures
and report need nothing else.
"""

import argparse
import hashlib
import io
import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lgmamba.files import file_digest
from lgmamba.frames import write_columns
from lgmamba.metrics import psnr
from lgmamba.records import RECORD, checked, checked_all, read_record, record_text, write_record

AXES = ("mode", "order", "repeat", "image", "step")
KEYS = ("run", "seed", "mode", "order", "method", "repeat", "image", "step")
SMALL = ("train/run.json", "train/train.json", "train/history.parquet", "train/record.json")
SMALL += ("remedies/remedies.json", "remedies/steps.parquet", "remedies/retention.parquet", "remedies/record.json")
FOLDERS = ("probes", "remedies/artefacts")


def pack(results: Path, to: Path, mb: float) -> None:
    """Runs that are complete, in as few files as the limit allows."""
    to.mkdir(parents=True, exist_ok=True)
    number, size, tar = 0, float("inf"), None
    for evaluation in sorted(results.glob("runs/*/seed*/evaluation/evaluation.json")):
        home = evaluation.parents[1]
        members = {
            str((home / name).relative_to(results)): (home / name).read_bytes()
            for name in SMALL
            if (home / name).is_file()
        }
        members |= {
            str(f.relative_to(results)): f.read_bytes()
            for folder in FOLDERS
            for f in sorted((home / folder).glob("*"))
            if f.is_file()
        }
        record = read_record(home / "evaluation", "reconstruct")
        probed = checked_all(home / "evaluation", tuple(record.files), "reconstruct")
        content = errors(probed.pop("steps.parquet"))
        if (
            home.name != f"seed{first_seed(results, home.parent)}"
        ):  # pictures are shown of one seed, and are most of what there is
            probed.pop("panel.safetensors", None)
        members |= {str(path.relative_to(results)): path.read_bytes() for path in probed.values()}
        members[f"{home.relative_to(results)}/evaluation/errors.parquet"] = content
        files = {"errors.parquet" if name == "steps.parquet" else name: digest for name, digest in record.files.items()}
        files["errors.parquet"] = hashlib.sha256(content).hexdigest()
        members[f"{home.relative_to(results)}/evaluation/{RECORD}"] = record_text(replace(record, files=files)).encode()
        here = sum(map(len, members.values())) + 1024 * len(members)
        if size + here > mb * 2**20:
            if tar:
                tar.close()
            tar = tarfile.open(to / f"{results.name}.{number}.tar", "w")
            number, size = number + 1, 0
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        size += here
    if tar:
        tar.close()


def first_seed(results: Path, run: Path) -> int:
    """The seed that the study names first, whose pictures are shown; without its configuration the lowest of a run that was read."""
    study = results / "config/study.json"
    if study.is_file():
        return json.loads(study.read_text(encoding="utf-8"))["seeds"][0]
    return min(int(path.parents[1].name.removeprefix("seed")) for path in run.glob("seed*/evaluation/evaluation.json"))


def errors(steps: Path) -> bytes:
    """Every measured column of every method over the axes that it depends on, one after the other; what they are, as metadata.

    `psnr` travels only where it is not that of `mse`.
    """
    table = pq.read_table(steps)
    columns = [name for name in table.column_names if name not in KEYS]
    if follows := "psnr" in columns and np.array_equal(table["psnr"].to_numpy(), psnr(table["mse"].to_numpy())):
        columns.remove("psnr")
    axes = {axis: table[axis].unique().to_pylist() for axis in AXES}
    parts, kinds = [], []
    for method in table["method"].unique().to_pylist():
        rows = table.filter(pc.equal(table["method"], method))
        places = tuple(pc.index_in(rows[axis], pa.array(axes[axis])).to_numpy() for axis in AXES)
        for column in columns:
            cube = as_cube(rows[column], places, [len(values) for values in axes.values()])
            for axis in (0, 4):  # modes are alike for a plain model, and steps for the mean image
                first = cube.take([0], axis)
                cube = first if np.array_equal(np.broadcast_to(first, cube.shape), cube, equal_nan=True) else cube
            kinds.append({"method": method, "column": column, "shape": list(cube.shape)})
            parts.append(cube.ravel())
    about = {"run": table["run"][0].as_py(), "seed": table["seed"][0].as_py(), "psnr": bool(follows)}
    about |= {"kinds": kinds, "axes": axes, "columns": table.column_names}
    flat = pa.table({"value": np.concatenate(parts)}).replace_schema_metadata({"errors": json.dumps(about)})
    sink = io.BytesIO()
    pq.write_table(
        flat, sink, compression="zstd", compression_level=9, use_dictionary=False, use_byte_stream_split=["value"]
    )
    return sink.getvalue()


def as_cube(column: pa.ChunkedArray, places: tuple[np.ndarray, ...], shape: list[int]) -> np.ndarray:
    """Values (mode, order, repeat, image, step), NaN where there is none, of a column whose rows belong to these places."""
    if column.type != pa.float32() or len(column) != np.prod(shape):
        raise SystemExit(f"steps.parquet has holes, or a column is {column.type} and not float: nothing is packed.")
    cube = np.full(shape, np.nan, np.float32)
    cube[places] = column.to_numpy()
    return cube


def unpack(results: Path, source: Path) -> None:
    """The runs as the stages left them, but for the weights."""
    for path in sorted(source.glob(f"{results.name}.*.tar")):
        with tarfile.open(path) as tar:
            tar.extractall(results, filter="data")
    for part in sorted(results.glob("runs/*/seed*/evaluation/errors.parquet")):
        record = read_record(part.parent, "reconstruct")
        rebuild(checked(part.parent, "errors.parquet", "reconstruct"))
        files = {name: digest for name, digest in record.files.items() if name != "errors.parquet"}
        files["steps.parquet"] = file_digest(part.with_name("steps.parquet"))  # the same rows, in another order
        write_record(replace(record, files=files), part.parent)
        part.unlink()


def rebuild(part: Path) -> None:
    """steps.parquet again."""
    table = pq.read_table(part)
    about = json.loads(table.schema.metadata[b"errors"])
    axes, flat, at = about["axes"], table["value"].to_numpy(), 0
    full = [len(axes[axis]) for axis in AXES]
    frames: dict[str, dict[str, np.ndarray]] = {}  # by method
    for kind in about["kinds"]:
        size = int(np.prod(kind["shape"]))
        values = np.broadcast_to(flat[at : at + size].reshape(kind["shape"]), full)
        at += size
        frames.setdefault(kind["method"], {})[kind["column"]] = values.ravel()
    grid = np.indices(full).reshape(len(AXES), -1)
    keys = {axis: np.array(axes[axis])[index] for axis, index in zip(AXES, grid, strict=True)}
    columns: dict[str, Any] = {}
    for name in about["columns"]:
        if name in ("run", "seed"):
            columns[name] = about[name]
        elif name == "method":
            columns[name] = np.repeat(list(frames), grid.shape[1])
        elif name in AXES:
            columns[name] = np.tile(keys[name], len(frames))
        elif name == "psnr" and about["psnr"]:
            columns[name] = psnr(columns["mse"].to_numpy())
        else:
            found = np.concatenate([frame[name] for frame in frames.values()])
            columns[name] = pa.array(found, mask=np.isnan(found))
    write_columns(part.with_name("steps.parquet"), columns)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--mb", type=float, default=15.0)
    given = parser.parse_args()
    pack(given.results, given.to, given.mb) if given.what == "pack" else unpack(given.results, given.source)

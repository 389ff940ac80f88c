"""Carry a study's results from the machine that made them to another one, without weights, and small.

    python workflow/scripts/results_without_weights.py pack --results results/cifar10 --to out --mb 15
    python workflow/scripts/results_without_weights.py unpack --results results/cifar10 --from out

pack writes <results>.<number>.tar files of at most --mb megabytes, each with whole runs. Of steps.parquet one column travels, in
the order of its keys and without what is repeated; unpack makes the whole frame of it again. `evaluate`, figures and
report need nothing else.
"""

import argparse
import hashlib
import io
import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

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


def errors(steps: Path) -> bytes:
    """The model's errors over AXES, and those of the baselines over the axes that they depend on; keys as metadata."""
    table = pq.read_table(steps)
    sink = io.BytesIO()
    parts, kinds = [], []
    for method in ("model", "paste", "mean_image"):
        rows = table.filter(pc.equal(table["method"], method))
        cube, values = as_cube(rows)
        for axis in (0, 4):  # modes are alike for a plain model, and steps for the mean image
            first = cube.take([0], axis)
            cube = first if (cube == first).all() else cube
        kinds.append({"method": method, "shape": list(cube.shape)})
        parts.append(cube.ravel())
    meta = {"run": table["run"][0].as_py(), "seed": table["seed"][0].as_py(), "kinds": kinds, "axes": values}
    flat = pa.table({"mse": np.concatenate(parts)}).replace_schema_metadata({"errors": json.dumps(meta)})
    pq.write_table(
        flat, sink, compression="zstd", compression_level=9, use_dictionary=False, use_byte_stream_split=["mse"]
    )
    return sink.getvalue()


def as_cube(rows: pa.Table) -> tuple[np.ndarray, dict[str, list]]:
    """Errors (mode, order, repeat, image, step) and the values of each axis in the order of the frame."""
    values, index = {}, []
    for axis in AXES:
        column = rows[axis].combine_chunks().dictionary_encode()
        values[axis] = column.dictionary.to_pylist()
        index.append(column.indices.to_numpy())
    cube = np.full([len(values[axis]) for axis in AXES], np.nan, np.float32)
    cube[tuple(index)] = rows["mse"].to_numpy()
    assert not np.isnan(cube).any() and len(rows) == cube.size, "steps.parquet has holes"
    return cube, values


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
    meta = json.loads(table.schema.metadata[b"errors"])
    axes, flat, at = meta["axes"], table["mse"].to_numpy(), 0
    full = [len(axes[axis]) for axis in AXES]
    columns: dict[str, list] = {name: [] for name in (*AXES, "method", "mse")}
    grid = np.indices(full).reshape(len(AXES), -1)
    for kind in meta["kinds"]:
        size = int(np.prod(kind["shape"]))
        cube = np.broadcast_to(flat[at : at + size].reshape(kind["shape"]), full)
        at += size
        for axis, index in zip(AXES, grid, strict=True):
            columns[axis].append(np.array(axes[axis])[index])
        columns["method"].append(np.full(cube.size, kind["method"]))
        columns["mse"].append(cube.ravel())
    whole = {name: np.concatenate(v) for name, v in columns.items()}
    order = ("mode", "order", "method", "repeat", "image", "step", "mse")
    write_columns(
        part.with_name("steps.parquet"),
        {"run": meta["run"], "seed": meta["seed"]}
        | {name: whole[name] for name in order}
        | {"psnr": psnr(whole["mse"])},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--mb", type=float, default=15.0)
    given = parser.parse_args()
    pack(given.results, given.to, given.mb) if given.what == "pack" else unpack(given.results, given.source)

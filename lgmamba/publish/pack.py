"""Everything that a study hands to others, in one file.

README.md                       the study, its runs, and how to use them
runs/<run>/README.md            the card of a run
runs/<run>/seed<k>/train/...    weights, configuration, record of each training
frames/...                      frames that figures and report read, and croissant.json
images.croissant.json           what the images were; the images themselves are not packed
"""

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from lgmamba.analysis import kept_frames
from lgmamba.analysis.collect import load_study
from lgmamba.config.study import Params
from lgmamba.data.artefact import read_manifest
from lgmamba.files import atomic_path, to_json
from lgmamba.publish.card import card_of
from lgmamba.publish.croissant import frames_metadata, images_metadata
from lgmamba.records import checked_all

TRAINED = ("model.safetensors", "run.json", "train.json")
RECORD = "record.json"


def pack(study: Path, results: Path, data: Path, out: Path, day: str) -> list[str]:
    """Write the file; whole or absent, and to the same bytes from the same results on the same day.

    Args:
        study: <results>/config/study.json.
        results: the study's results, with runs/ and frames/.
        data: folder of its images.
        out: a .tar.gz.
        day: on which it is published, 2026-01-31.
    Returns:
        names inside, sorted.
    Raises:
        ArtefactError: a training or a frame is missing or damaged.
        DataError: the images are.
    """
    params, frames = load_study(study), results / "frames"
    kept = checked_all(frames, tuple(name for name in kept_frames(params) if name.endswith(".parquet")), "evaluate")
    files: dict[str, Path | str] = {f"frames/{name}": path for name, path in kept.items()}
    for run, seed in params.run_configs():
        folder = f"runs/{run}/seed{seed}/train"
        trained = checked_all(results / folder, TRAINED, "train")
        files |= {f"{folder}/{name}": path for name, path in trained.items()}
        files[f"{folder}/{RECORD}"] = results / folder / RECORD
    summary, trainings = pl.read_parquet(kept["summary.parquet"]), pl.read_parquet(kept["runs.parquet"])
    files |= {f"runs/{run}/README.md": card_of(params, run, summary, trainings) for run in params.runs_by_name()}
    metadata = frames_metadata(params, list(kept.values()), day)
    files["frames/croissant.json"] = to_json(metadata)
    files["images.croissant.json"] = to_json(images_metadata(params, read_manifest(data), data, day))
    files["README.md"] = _front(params)
    with atomic_path(out) as part:
        _write(part, dict(sorted(files.items())))
    return sorted(files)


def _front(params: Params) -> str:
    runs = "\n".join(f"* [`{run}`](runs/{run}/README.md)" for run in params.runs_by_name())
    return (
        f"# Study `{params.study}`\n\n{params.report.question}\n\n{runs}\n\nWeights are in `runs/<run>/seed<k>/train/model.safetensors`; "
        '`lgmamba.load("...").reconstruct(image)` reads one. Measurements are in `frames/`, with their columns in `frames/croissant.json`. '
        "Weights, frames and code: MIT; images are not packed and keep the licence of their source.\n"
    )


def _write(path: Path, files: Mapping[str, Path | str]) -> None:
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, content in files.items():
            found = content.read_bytes() if isinstance(content, Path) else content.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(found)
            tar.addfile(entry, io.BytesIO(found))

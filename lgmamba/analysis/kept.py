"""Frames that a study keeps beside its report, in git: enough for every figure and the report, without its runs.

<reports>/frames/   the files of `lgmamba.analysis.kept_frames`, and study.json, the configuration that they were made with
"""

import textwrap
from dataclasses import replace
from pathlib import Path

from lgmamba.analysis import kept_frames
from lgmamba.analysis.collect import differing_keys, load_study
from lgmamba.config.base import ConfigError
from lgmamba.config.study import Params
from lgmamba.files import file_digest, to_json, write_atomic
from lgmamba.keys import MAY_DIFFER
from lgmamba.records import begin, checked_all, read_record, write_record


def keep(study_json: Path, frames: Path, out: Path) -> None:
    """Copy what figures and report read to a folder of its own, with the configuration, and a record as `evaluate` leaves it.

    Args:
        study_json: the study's resolved parameters.
        frames: folder written by `evaluate`.
        out: <reports>/frames; files that are no longer read are removed.
    Raises:
        ArtefactError: a frame is missing or damaged.
    """
    params, record = load_study(study_json), read_record(frames, "evaluate")
    read = checked_all(frames, kept_frames(params), "evaluate")
    begin(out)
    for path in out.glob("*.parquet"):
        path.unlink()
    for name, path in read.items():
        write_atomic(out / name, path.read_bytes())
    write_atomic(out / "study.json", to_json(params.model_dump(mode="json")))
    files = {name: record.files[name] for name in read} | {"study.json": file_digest(out / "study.json")}
    write_record(replace(record, files=files), out)


def check_kept(params: Params, folder: Path) -> None:
    """Whether the frames kept in a folder are those of this configuration.

    Args:
        params: the study as configured now.
        folder: <reports>/frames.
    Raises:
        ConfigError: nothing is kept there, or something made with another configuration; names each key.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; study {params.study!r} has kept no frames (target keep_frames)")
    found, expected = (
        {key: value for key, value in study.model_dump(mode="json").items() if key not in MAY_DIFFER}
        for study in (load_study(path), params)
    )
    if keys := [textwrap.shorten(key, 300) for key in differing_keys(found, expected)]:  # a list may be long
        raise ConfigError(
            f"{folder}: frames of another configuration than the current one:\n  " + "\n  ".join(keys) + "\n"
            "Take back what was changed, or run the study again without frames=kept and keep its frames"
        )

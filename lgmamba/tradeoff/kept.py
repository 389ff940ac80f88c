"""Frames that a study keeps beside its report, in git: enough for figures and report, without any training."""

import textwrap
from pathlib import Path

from lgmamba.analysis.collect import differing_keys
from lgmamba.config.base import ConfigError
from lgmamba.config.files import read_config
from lgmamba.files import to_json, write_atomic
from lgmamba.keys import MAY_DIFFER
from lgmamba.records import begin, checked_all, read_record, write_record
from lgmamba.tradeoff.config import TradeoffParams
from lgmamba.tradeoff.jobs import FRAMES

STUDY = "study.json"


def keep(params: TradeoffParams, frames: Path, out: Path) -> None:
    """Copy the frames with the configuration that they were made with, and the record as `tradeoff evaluate` left it.

    Args:
        frames: folder written by `tradeoff evaluate`.
        out: <reports>/frames.
    Raises:
        ArtefactError: a frame is missing or damaged.
    """
    record = read_record(frames, "tradeoff evaluate")
    read = checked_all(frames, tuple(f"{name}.parquet" for name in FRAMES), "tradeoff evaluate")
    begin(out)
    for path in out.glob("*.parquet"):
        path.unlink()
    for name, path in read.items():
        write_atomic(out / name, path.read_bytes())
    write_atomic(out / STUDY, to_json(params.model_dump(mode="json")))
    write_record(record, out)


def check_kept(params: TradeoffParams, folder: Path) -> None:
    """Whether the frames kept in a folder are those of this configuration.

    Raises:
        ConfigError: nothing is kept there, or something made with another configuration; names each key.
    """
    if not (folder / STUDY).is_file():
        raise ConfigError(
            f"{folder / STUDY}: no such file; study {params.study!r} has kept no frames (target keep_frames)"
        )
    found, expected = (
        {key: value for key, value in study.model_dump(mode="json").items() if key not in MAY_DIFFER}
        for study in (read_config(folder / STUDY, TradeoffParams), params)
    )
    if keys := [textwrap.shorten(key, 300) for key in differing_keys(found, expected)]:
        raise ConfigError(
            f"{folder}: frames of another configuration than the current one:\n  " + "\n  ".join(keys) + "\n"
            "Take back what was changed, or run the study again without frames=kept and keep its frames"
        )

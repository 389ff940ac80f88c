"""Frames that a study keeps beside its report, in git: enough for every figure and the report, without its runs.

<reports>/frames/   the files of `lgmamba.analysis.kept_frames`, of a trade-off study `lgmamba.tradeoff.keys.FRAME_FILES`, and
                    study.json, the configuration that they were made with; errors of single images (`lgmamba.analysis.FOR_READERS`),
                    which older ones have not
"""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lgmamba.config.base import ConfigError
from lgmamba.config.differences import differing_keys
from lgmamba.config.files import read_config
from lgmamba.config.study import Params
from lgmamba.files import file_digest, to_json, write_atomic
from lgmamba.keys import study_values
from lgmamba.records import begin, checked_all, read_record, write_record

if TYPE_CHECKING:
    from lgmamba.tradeoff.config import TradeoffParams

STUDY = "study.json"


def keep(params: Params | TradeoffParams, names: tuple[str, ...], stage: str, frames: Path, out: Path) -> None:
    """Copy what figures and report read to a folder of its own, with the configuration, and a record as the stage leaves it.

    Args:
        params: the study, of either kind.
        names: files that are kept.
        stage: what makes frames of such a study, such as "evaluate".
        frames: folder written by it.
        out: <reports>/frames; files that are no longer read are removed.
    Raises:
        ArtefactError: a frame is missing or damaged.
    """
    record = read_record(frames, stage)
    read = checked_all(frames, names, stage)
    begin(out)
    for path in out.glob("*.parquet"):
        path.unlink()
    for name, path in read.items():
        write_atomic(out / name, path.read_bytes())
    write_atomic(out / STUDY, to_json(params.model_dump(mode="json")))
    files = {name: record.files[name] for name in read} | {STUDY: file_digest(out / STUDY)}
    write_record(replace(record, files=files), out)


def check_kept(params: Params | TradeoffParams, folder: Path) -> None:
    """Whether the frames kept in a folder are those of this configuration.

    Args:
        params: the study as configured now.
        folder: <reports>/frames.
    Raises:
        ConfigError: nothing is kept there, or something made with another configuration; names each key.
    """
    path = folder / STUDY
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; study {params.study!r} has kept no frames (target keep_frames)")
    found, expected = (study_values(study) for study in (read_config(path, type(params)), params))
    if keys := [textwrap.shorten(key, 300) for key in differing_keys(found, expected)]:  # a list may be long
        raise ConfigError(
            f"{folder}: frames of another configuration than the current one:\n  " + "\n  ".join(keys) + "\n"
            "Take back what was changed, or run the study again without frames=kept and keep its frames"
        )

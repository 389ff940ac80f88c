"""Frames that a study keeps beside its report, in git: enough for every figure and the report, without its runs.

<reports>/frames/   the files of `lgmamba.analysis.kept_frames`, and study.json, the configuration that they were made with
"""

import textwrap
from pathlib import Path

from lgmamba.analysis.collect import differing_keys, load_study
from lgmamba.config.base import ConfigError
from lgmamba.config.study import Params

MAY_DIFFER = ("outputs", "tracking", "device")
"""Sections of the configuration that change no frame: where things lie, who is told, what computes."""


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

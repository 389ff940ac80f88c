"""What decides the results of these stages; see `lgmamba.keys`."""

from collections.abc import Mapping
from functools import cache

from lgmamba.files import digest_of
from lgmamba.keys import study_values
from lgmamba.provenance import code_digest
from lgmamba.records import Key, Record
from lgmamba.tradeoff.config import TradeoffParams
from lgmamba.tradeoff.stack_file import StackFile

ENTRY_MODULES = {
    "tradeoff train": "lgmamba.tradeoff.stage",
    "tradeoff evaluate": "lgmamba.tradeoff.frames",
    "tradeoff figure": "lgmamba.tradeoff.figures",
    "tradeoff report": "lgmamba.tradeoff.report",
}
"""Stage -> the module whose code, with all that it imports, decides the stage's result."""

FRAMES = ("points", "frontier", "summary", "contrasts", "history", "samples", "pictures", "stacks")
"""Frames of a study; all of them are kept."""
FRAME_FILES = tuple(f"{name}.parquet" for name in FRAMES)


def stack_key(file: StackFile, images: str) -> Key:
    """Of one stack; `images` is the digest of the image artefact's tensors."""
    return Key(
        "tradeoff train",
        {"study": file.study, "stack": file.name},
        digest_of(file.model_dump(mode="json")),
        _code("tradeoff train"),
        {"images": images},
    )


def frames_key(params: TradeoffParams, stacks: Mapping[str, Record | None]) -> Key:
    """Of a study's frames, from the records of every stack."""
    return _of_study("tradeoff evaluate", params, {name: r.digest() if r else "" for name, r in stacks.items()})


def figure_key(params: TradeoffParams, frames: Record | None) -> Key:
    """Of one figure."""
    return _of_study("tradeoff figure", params, {"frames": _digest(frames)})


def report_key(params: TradeoffParams, frames: Record | None, figures: Mapping[str, Record | None]) -> Key:
    """Of the report."""
    pictures = {name: r.digest((f"{name}.png",)) if r else "" for name, r in figures.items()}
    return _of_study("tradeoff report", params, {"frames": _digest(frames), "figures": digest_of(pictures)})


def _digest(frames: Record | None) -> str:
    """Of the frames alone: where they are kept, the configuration lies beside them."""
    return frames.digest(FRAME_FILES) if frames else ""


def _of_study(stage: str, params: TradeoffParams, inputs: dict[str, str]) -> Key:
    return Key(stage, {"study": params.study}, digest_of(study_values(params)), _code(stage), inputs)


@cache
def _code(stage: str) -> str:
    return code_digest(ENTRY_MODULES[stage])

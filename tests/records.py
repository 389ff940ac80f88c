"""Records of results that a test made, or spoilt, by hand."""

from pathlib import Path

from lgmamba.records import RECORD, Key, find_record, finish


def record(key: Key, folder: Path) -> None:
    """Record every file of a folder, as the stage that made them would."""
    finish(key, folder, [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != RECORD])


def record_again(folder: Path) -> None:
    """Record the files of a folder as they are now: as if the stage had made them so."""
    record(find_record(folder).key, folder)

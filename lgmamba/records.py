"""What a stage leaves beside its results: what it made them from, and the digest of every file.

    <folder>/record.json           of a stage that has a folder of its own
    <folder>/<part>.record.json    of one of several results in a folder, such as a figure

The record is written last, so a result without one is not finished. It decides whether a result is current
(`reason_to_make`), and no file of a stage is read without it (`checked`): by digests, never by time stamps.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lgmamba.files import digest_of, file_digest, to_json, write_atomic

RECORD = "record.json"


class ArtefactError(ValueError):
    """A result that is missing, damaged or somebody else's; the message names the file, its stage and what to do."""


@dataclass(frozen=True)
class Key:
    """What decides a result.

    Attributes:
        stage: name of the command that makes it.
        of: whose result it is: study, run, seed, as far as there are such.
        config: digest of the stage's configuration.
        code: digest of the stage's code.
        inputs: digests of what is read, by name.
    """

    stage: str
    of: dict[str, Any]
    config: str
    code: str
    inputs: dict[str, str]

    @property
    def digest(self) -> str:
        """One digest of all of it."""
        return digest_of(asdict(self))


@dataclass(frozen=True)
class Record:
    """A finished result.

    Attributes:
        key: what it was made from.
        files: digests of its files, by name relative to the folder.
        seen: digest of names, sizes and times of input files when their content was read; "" where none was.
    """

    key: Key
    files: dict[str, str]
    seen: str = ""

    def digest(self, names: tuple[str, ...] | None = None) -> str:
        """One digest of all files, or of those named."""
        return digest_of({name: self.files.get(name) for name in sorted(self.files if names is None else names)})


def record_path(folder: Path, part: str | None = None) -> Path:
    """Where the record of a result lies."""
    return folder / (RECORD if part is None else f"{part}.{RECORD}")


def begin(folder: Path, part: str | None = None) -> None:
    """Take away an earlier result's record: from now on the folder's files are in the making."""
    record_path(folder, part).unlink(missing_ok=True)


def finish(key: Key, folder: Path, names: Iterable[str], part: str | None = None, seen: str = "") -> Record:
    """Write the record of files that are complete; nothing may be written to them afterwards.

    Args:
        key: what they were made from.
        folder: where they lie.
        names: the files, relative to the folder.
        part: name of the result, where the folder holds several.
        seen: see `Record`.
    """
    record = Record(key, {name: file_digest(folder / name) for name in sorted(names)}, seen)
    write_record(record, folder, part)
    return record


def write_record(record: Record, folder: Path, part: str | None = None) -> None:
    """Write a record as it is."""
    write_atomic(record_path(folder, part), record_text(record))


def record_text(record: Record) -> str:
    """A record as its file has it."""
    return to_json({"format": 1, **asdict(record)})


def find_record(folder: Path, part: str | None = None) -> Record | None:
    """The record there, or None where there is none that can be read."""
    try:
        values = json.loads(record_path(folder, part).read_text(encoding="utf-8"))
        key = Key(**values["key"])
        files, seen = values["files"], values["seen"]
        texts = [key.stage, key.config, key.code, seen, *key.inputs.values(), *files, *files.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    whole = isinstance(key.of, dict) and all(isinstance(text, str) for text in texts)
    return Record(key, files, seen) if whole else None


def read_record(folder: Path, stage: str, part: str | None = None) -> Record:
    """The record of a finished result of `stage`.

    Raises:
        ArtefactError: there is none, it is damaged, or another stage's.
    """
    path, found = record_path(folder, part), find_record(folder, part)
    if found is None:
        state = "damaged" if path.is_file() else "missing, so that what is there was not finished"
        raise ArtefactError(f"{path}: {state}; {_again(stage, folder)}")
    if found.key.stage != stage:
        raise ArtefactError(f"{path}: found a result of {found.key.stage}, expected one of {stage}")
    return found


def checked(folder: Path, name: str, stage: str, part: str | None = None) -> Path:
    """Path of a stage's file, once its content is what the stage recorded.

    Raises:
        ArtefactError: missing, damaged, or not finished.
    """
    return checked_all(folder, (name,), stage, part)[name]


def checked_all(folder: Path, names: tuple[str, ...], stage: str, part: str | None = None) -> dict[str, Path]:
    """The same for several files of one result, by name."""
    record = read_record(folder, stage, part)
    for name in names:
        if problem := _problem(folder, name, record):
            raise ArtefactError(f"{folder / name}: {problem}; {_again(stage, folder)}")
    return {name: folder / name for name in names}


def reason_to_make(key: Key, folder: Path, part: str | None = None) -> str | None:
    """Why a result has to be made, in a few words; None where it is there, whole, and made from exactly this."""
    found = find_record(folder, part)
    if found is None:
        return "not there yet" if not record_path(folder, part).is_file() else "its record is damaged"
    if found.key.stage != key.stage or found.key.of != key.of:
        return f"the result is {_owner(found.key)}"
    changed = [what for what in ("config", "code") if getattr(found.key, what) != getattr(key, what)]
    words = {"config": "other values", "code": "other code"}
    reasons = [words[what] for what in changed]
    mine, others = found.key.inputs, key.inputs
    if names := sorted(name for name in mine.keys() | others.keys() if mine.get(name) != others.get(name)):
        reasons.append(f"other {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}")
    if reasons:
        return " and ".join(reasons)
    return next((f"{name} {problem}" for name in found.files if (problem := _problem(folder, name, found))), None)


def refuse_other(key: Key, folder: Path, part: str | None = None) -> None:
    """Never write over somebody else's result.

    Raises:
        ArtefactError: the folder holds the result of another stage, study, run or seed; says which.
    """
    found = find_record(folder, part)
    if found is not None and (found.key.stage, found.key.of) != (key.stage, key.of):
        raise ArtefactError(
            f"{folder}: found {_owner(found.key)}, expected {_owner(key)} or nothing; name another folder, or remove this one"
        )


def _problem(folder: Path, name: str, record: Record) -> str | None:
    if name not in record.files:
        return "not among the files recorded there"
    try:
        digest = file_digest(folder / name)
    except FileNotFoundError:
        return "missing"
    except OSError as e:
        return f"cannot be read ({e.strerror})"
    expected = record.files[name]
    return None if digest == expected else f"damaged (SHA-256 {digest[:12]}, recorded {expected[:12]})"


def _owner(key: Key) -> str:
    names = ", ".join(f"{what} {value!r}" for what, value in key.of.items())
    return f"a result of {key.stage}{' for ' + names if names else ''}"


def _again(stage: str, folder: Path) -> str:
    return (
        f"`lgmamba {stage} ... --out {folder}` makes it again (`lgmamba show --commands` prints the whole line), "
        "and so does another call of the workflow"
    )

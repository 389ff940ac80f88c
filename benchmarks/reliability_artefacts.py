"""Damaged results of a finished study: whether the workflow takes them for current, and what the stages that read them do."""

import argparse
import os
import random
import shutil
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from reliability_tiny import NOT_RESULTS, TIMED, Study, preload

from lgmamba.analysis import frames_drawn
from lgmamba.files import file_digest
from lgmamba.jobs import Currency, Job, JobName, jobs_of, keep_frames_job
from lgmamba.records import RECORD

TITLE = "Damaged results"
NOTICED, TAKEN, TRACEBACK = "made again, with what follows", "taken as current", "a traceback"
OUTCOMES = (NOTICED, TAKEN, TRACEBACK)
REFUSED, UNUSED, USED = "refused by name", "the same result: not read", "used"
READ = (REFUSED, UNUSED, USED, TRACEBACK)
DAMAGES = ("one bit flipped", "cut in half", "empty", "another file's content")
READERS = 2
"""Stages, at most, that are given a damaged file to read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=int, default=75, help="damages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--study", type=Path, help="folder of a finished tiny study; made there where it is none")


def attack(options: argparse.Namespace, before: dict[str, Any]) -> dict[str, Any]:
    """Damage one file after the other, ask what is current, have it read, and put it back."""
    preload()
    with tempfile.TemporaryDirectory() as made:
        folder = (options.study or Path(made) / "study").resolve()
        if not folder.is_dir():
            Study.new(folder).finish()
        study, failures = Study(folder), []
        with study.here():
            kinds = kinds_of(study)
        outcomes: dict[str, Counter[str]] = {damage: Counter() for damage in DAMAGES}
        readings: dict[str, Counter[str]] = {damage: Counter() for damage in DAMAGES}
        order = random.Random(options.seed).sample(sorted(kinds), len(kinds))
        for i in range(before.get("n", 0), before.get("n", 0) + options.n):
            rng, damage = random.Random(f"{options.seed}/{i}"), DAMAGES[i % len(DAMAGES)]
            job, path = rng.choice(kinds[order[i % len(order)]])
            outcome, read = tried(study, job, path, damage, rng)
            outcomes[damage][outcome] += 1
            readings[damage].update(read.values())
            what = f"{path}, {damage}"
            failures += [f"{what}: {outcome}"] if outcome != NOTICED else []
            failures += [
                f"{what}: read by {line}: {found}" for line, found in read.items() if found in (USED, TRACEBACK)
            ]
    result = {"n": options.n, "seed": options.seed, "kinds": len(kinds), "outcomes": outcomes, "readings": readings}
    return result | {"failures": failures}


def kinds_of(study: Study) -> dict[str, list[tuple[Job, Path]]]:
    """Name of a file, or of its kind among figures, and whether it is kept -> job and file, of every result; to be used `here`."""
    kinds: dict[str, list[tuple[Job, Path]]] = {}
    for job in [*jobs_of(study.params()).values(), keep_frames_job(study.params())]:
        for path in sorted(job.out.rglob("*")):
            name = path.relative_to(job.out)
            if path.is_file() and path.stat().st_size and not (NOT_RESULTS & set(name.parts) or path.suffix == ".lock"):
                if job.part is None and len(name.parts) > 1:
                    continue  # another job's
                kind = path.name.removeprefix(job.part) if job.part and path.name.startswith(job.part) else path.name
                if job.part is None or kind != path.name:
                    kinds.setdefault(f"{job.stage} {kind}", []).append((job, path))
    return kinds


def tried(study: Study, job: Job, path: Path, damage: str, rng: random.Random) -> tuple[str, dict[str, str]]:
    """What the workflow makes of a damaged file, whose time stamp stays, and what its readers do; afterwards it is whole again."""
    with study.here():
        kept = keep_frames_job(study.params())
        jobs = study.jobs() | {kept.name: kept}
        asked = readers(jobs, job, path, rng)
        for reader in asked:
            if reader.line not in WHOLE:
                WHOLE[reader.line] = made_elsewhere(study, reader)
        content, times = path.read_bytes(), path.stat()
        path.write_bytes(damaged(content, damage, path, rng))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        try:
            currency = Currency(jobs)
            noticed = NOTICED if any(currency.reason(name) for name in jobs) else TAKEN
            return noticed, {reader.line: read(study, reader, path) for reader in asked}
        except Exception:
            traceback.print_exc()
            return TRACEBACK, {}
        finally:
            path.write_bytes(content)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def readers(jobs: dict[JobName, Job], job: Job, path: Path, rng: random.Random) -> list[Job]:
    """Some of the jobs that read a result, of figures one that draws the file."""
    after = [other for other in jobs.values() if job.name in other.after]
    after = [other for other in after if other.stage != "figure" or path.name in frames_drawn(other.name[1])]
    return rng.sample(after, min(READERS, len(after)))


WHOLE: dict[str, tuple[int, str, dict[str, str]]] = {}
"""Line of a reader -> what it makes of files that are whole."""


def read(study: Study, job: Job, path: Path) -> str:
    """What a stage does with a damaged file."""
    status, text, made = made_elsewhere(study, job)
    if status:
        named = path.name in text or path.name.endswith(RECORD)  # or the file that a damaged record no longer fits
        return REFUSED if named and "Traceback" not in text else TRACEBACK
    return UNUSED if (status, made) == (WHOLE[job.line][0], WHOLE[job.line][2]) else USED


def made_elsewhere(study: Study, job: Job) -> tuple[int, str, dict[str, str]]:
    """Exit status and words of a stage that makes its result in another folder, and file -> digest of what it made."""
    out = Path("again")
    other = {str(job.out): str(out), str(job.out.parent / "work"): str(out / "work")}
    try:
        status, text = study.start([other.get(word, word) for word in job.words]).wait()
        left_out = set() if job.stage in ("figure", "report") else TIMED
        made = {str(p.relative_to(out)): file_digest(p) for p in sorted(out.rglob("*")) if p.is_file()}
        return status, text, {name: digest for name, digest in made.items() if is_result(Path(name), left_out)}
    finally:
        shutil.rmtree(out, ignore_errors=True)


def is_result(name: Path, left_out: set[str]) -> bool:
    return not (name.name in left_out or name.name.endswith((RECORD, ".lock")) or "work" in name.parts)


def damaged(content: bytes, damage: str, path: Path, rng: random.Random) -> bytes:
    if damage == "one bit flipped":
        at = rng.randrange(len(content))
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if damage == "another file's content":
        others = [p for p in sorted(path.parent.iterdir()) if p.is_file() and p.read_bytes() != content]
        return rng.choice(others).read_bytes()
    return content[: len(content) // 2] if damage == "cut in half" else b""


def section(result: dict[str, Any]) -> str:
    """The tables, and what was taken or used."""
    lines = [
        f"{result['n']} damages to {result['kinds']} kinds of files of a finished tiny study, records among them (seed {result['seed']}), "
        f"each with its time stamp as before. Whether the workflow makes the file again was asked, and up to {READERS} of the stages that "
        "read such a file were told to. `taken as current`, `used` and a traceback are failures.",
        *table("what the workflow does", OUTCOMES, result["outcomes"]),
        *table("what a stage does that is told to read it", READ, result["readings"]),
    ]
    return "\n".join([*lines, *(f"\n* {failure}" for failure in result["failures"])])


def table(title: str, columns: tuple[str, ...], rows: dict[str, dict[str, int]]) -> list[str]:
    lines = ["", f"| {title} | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    return lines + [f"| {d} | {' | '.join(str(row.get(c, 0)) for c in columns)} |" for d, row in rows.items()]

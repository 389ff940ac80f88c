"""Damaged results of a finished study: whether the workflow takes them for current. Their readers are not called here (tests are)."""

import argparse
import os
import random
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from reliability_tiny import NOT_RESULTS, Study, preload

from lgmamba.jobs import Currency, jobs_of, keep_frames_job

TITLE = "Damaged results"
NOTICED, TAKEN, TRACEBACK = "made again, with what follows", "taken as current", "a traceback"
OUTCOMES = (NOTICED, TAKEN, TRACEBACK)
DAMAGES = ("one bit flipped", "cut in half", "empty", "another file's content")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=int, default=75, help="damages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--study", type=Path, help="folder of a finished tiny study; made where none is given")


def attack(options: argparse.Namespace, before: dict[str, Any]) -> dict[str, Any]:
    """Damage one file after the other, ask what is current, and put it back."""
    with tempfile.TemporaryDirectory() as made:
        if options.study is None:
            preload()
            Study.new(Path(made) / "study").finish()
        study = Study(options.study or Path(made) / "study")
        rng, kinds, failures = random.Random(options.seed), kinds_of(study), []
        outcomes: dict[str, Counter[str]] = {damage: Counter() for damage in DAMAGES}
        order = rng.sample(sorted(kinds), len(kinds))
        for i in range(options.n):
            path, damage = rng.choice(kinds[order[i % len(order)]]), DAMAGES[i % len(DAMAGES)]
            outcome = tried(study, path, damage, rng)
            outcomes[damage][outcome] += 1
            if outcome != NOTICED:
                failures.append(f"{path.relative_to(study.folder)}, {damage}: {outcome}")
    return {"n": options.n, "seed": options.seed, "kinds": len(kinds), "outcomes": outcomes, "failures": failures}


def kinds_of(study: Study) -> dict[str, list[Path]]:
    """Name of a file, or of its kind among figures, and whether it is kept -> files, of every result."""
    kinds: dict[str, list[Path]] = {}
    for job in [*jobs_of(study.params()).values(), keep_frames_job(study.params())]:
        for path in sorted((study.folder / job.out).rglob("*")):
            name = path.relative_to(study.folder / job.out)
            if path.is_file() and path.stat().st_size and not (NOT_RESULTS & set(name.parts) or path.suffix == ".lock"):
                if job.part is None and len(name.parts) > 1:
                    continue  # another job's
                kind = path.name.removeprefix(job.part) if job.part and path.name.startswith(job.part) else path.name
                if job.part is None or kind != path.name:
                    kinds.setdefault(f"{job.stage} {kind}", []).append(path)
    return kinds


def tried(study: Study, path: Path, damage: str, rng: random.Random) -> str:
    """What the workflow makes of a damaged file, whose time stamp stays; afterwards it is whole again."""
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(damaged(content, damage, path, rng))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    try:
        with study.here():
            kept = keep_frames_job(study.params())
            jobs = study.jobs() | {kept.name: kept}
            currency = Currency(jobs)
            return NOTICED if any(currency.reason(name) for name in jobs) else TAKEN
    except Exception:
        traceback.print_exc()
        return TRACEBACK
    finally:
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def damaged(content: bytes, damage: str, path: Path, rng: random.Random) -> bytes:
    if damage == "one bit flipped":
        at = rng.randrange(len(content))
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if damage == "another file's content":
        others = [p for p in sorted(path.parent.iterdir()) if p.is_file() and p.read_bytes() != content]
        return rng.choice(others).read_bytes()
    return content[: len(content) // 2] if damage == "cut in half" else b""


def section(result: dict[str, Any]) -> str:
    """The table, and what was taken."""
    lines = [
        f"{result['n']} damages to {result['kinds']} kinds of files of a finished tiny study, records among them (seed {result['seed']}), "
        "each with its time stamp as before. Whether the workflow makes the file again was asked; the stages that read it were not "
        "called. `taken as current` is a failure.",
        "",
        f"| damage | {' | '.join(OUTCOMES)} |",
        f"| --- |{' ---: |' * len(OUTCOMES)}",
    ]
    lines += [f"| {d} | {' | '.join(str(row.get(o, 0)) for o in OUTCOMES)} |" for d, row in result["outcomes"].items()]
    return "\n".join([*lines, *(f"\n* {failure}" for failure in result["failures"])])

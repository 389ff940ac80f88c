"""Calls of a tiny study that are killed at random points, on every path to its results, and then typed again.

The study is made once, undisturbed. For each kill a random stretch of its results is taken away, from one job to another that
follows from it; the call that makes them again is killed with all its processes at a random moment; and it is typed again, until it
ends. Then every file must have the bytes that it had before, but for those that say how long something took (TIMED).
"""

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliability_tiny import TIMED, Process, Served, Study, preload

from lgmamba.jobs import Job, JobName
from lgmamba.records import find_record, record_path

TITLE = "Kills at random points"
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
WITHOUT = ("data", "train", "reconstruct", "remedy", "probes")
"""Stages that the script without Snakemake runs."""
PATIENCE_S = 300.0
"""How long a call may take to end after SIGTERM."""
UNLOCK = ("snakemake", "--unlock")


@dataclass(frozen=True)
class Stretch:
    """What is made again.

    Attributes:
        jobs: from one job to another that follows from it, in an order that works.
        words: of the call that makes them.
        again: of calls that come before it is typed again, after a kill.
    """

    jobs: list[Job]
    words: tuple[str, ...]
    again: tuple[tuple[str, ...], ...] = ()


def by_hand(jobs: dict[JobName, Job], rng: random.Random) -> Stretch:
    """One stage as `lgmamba show --commands` prints it."""
    job = _one(jobs, rng)
    return Stretch([job], job.words)


def with_snakemake(jobs: dict[JobName, Job], rng: random.Random) -> Stretch:
    """A file of a job, by way of all between an earlier job and it."""
    first = _one(jobs, rng)
    last = _one({name: job for name, job in jobs.items() if first.name in _before(jobs, name) | {name}}, rng)
    found = _between(jobs, first, last)
    target = str(record_path(last.out, last.part))
    return Stretch(found, ("snakemake", "--cores", "2", "--config", "preset=tiny", "--", target), (UNLOCK,))


def without_snakemake(jobs: dict[JobName, Job], rng: random.Random) -> Stretch:
    """Images, trainings and readings by the script; what follows from a job is taken away with it, or is left."""
    own = {name: job for name, job in jobs.items() if name[0] in WITHOUT}
    first, all_of_it = _one(own, rng), rng.random() < 0.5
    found = [job for name, job in own.items() if name == first.name or (all_of_it and first.name in _before(own, name))]
    return Stretch(found, ("workflow/scripts/without_snakemake.py", "--study", "tiny", "--jobs", "2"))


def with_dvc(jobs: dict[JobName, Job], rng: random.Random) -> Stretch:
    """`dvc repro` of a stage, by way of all between an earlier stage and it; nothing comes back from DVC's own cache."""
    last = _one(jobs, rng)
    first = _one({name: jobs[name] for name in _before(jobs, last.name) | {last.name}}, rng)
    found = _between(jobs, first, last)
    return Stretch(found, ("dvc", "repro", "--no-run-cache", dvc_stage(last.name)), (UNLOCK,))


def dvc_stage(name: JobName) -> str:
    """What dvc.yaml calls the stage that makes a job's result."""
    stage, *which = name
    return "figures" if stage == "figure" else "@".join([stage, *(["-".join(which)] if which else [])])


PATHS: dict[str, Callable[[dict[JobName, Job], random.Random], Stretch]] = {
    "by hand": by_hand,
    "without Snakemake": without_snakemake,
    "Snakemake": with_snakemake,
    "DVC": with_dvc,
}


def _one(jobs: dict[JobName, Job], rng: random.Random) -> Job:
    """A job of a stage, every stage as often."""
    stage = rng.choice(sorted({name[0] for name in jobs}))
    return jobs[rng.choice([name for name in jobs if name[0] == stage])]


def _before(jobs: dict[JobName, Job], name: JobName) -> set[JobName]:
    """Every job that one follows from."""
    after = [before for before in jobs[name].after if before in jobs]
    return set(after).union(*(_before(jobs, before) for before in after))


def _between(jobs: dict[JobName, Job], first: Job, last: Job) -> list[Job]:
    """Every job that follows from one and that another follows from, both included."""
    ways = _before(jobs, last.name) | {last.name}
    return [job for name, job in jobs.items() if name in ways and first.name in _before(jobs, name) | {name}]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=int, default=100, help="kills on each path")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--path", action="append", choices=[*PATHS], help="one path; by default all of them")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no kill begins after so many")


def attack(options: argparse.Namespace, before: dict[str, Any]) -> dict[str, Any]:
    """Kill and go on; see `section` for the result."""
    ends = time.monotonic() + 60 * options.minutes
    preload()
    with tempfile.TemporaryDirectory(prefix="lgm-") as made, closing(Served(Path(made) / "s")) as served:
        studies: dict[str, Attacked] = {}
        for path in options.path or PATHS:
            kind = "recorded" if path == "DVC" else "new"
            if kind not in studies:
                studies[kind] = Attacked(getattr(Study, kind)(Path(made) / kind, served.environment()), served)
            attacked = studies[kind]
            tried = before.get("paths", {}).get(path, {}).get("tried", 0)
            for i in range(tried, tried + options.n):
                if time.monotonic() > ends:
                    break
                attacked.once(path, random.Random(f"{options.seed}/{path}/{i}"))
    return {
        "seed": options.seed,
        "paths": {path: row for attacked in studies.values() for path, row in attacked.paths.items()},
        "failures": [failure for attacked in studies.values() for failure in attacked.failures],
    }


class Attacked:
    """The study, how long its jobs take, and what came of every kill."""

    def __init__(self, study: Study, served: Served):
        self.study, self.served = study, served
        self.paths: dict[str, dict[str, Any]] = {}
        self.failures: list[str] = []
        with study.here():
            self.jobs = study.jobs()
        self.took: dict[JobName, float] = {}
        for name, job in self.jobs.items():
            begun = time.monotonic()
            status, text = study.start(job.words).wait()
            if status:
                raise RuntimeError(f"{job.line} ended with {status}:\n{text}")
            self.took[name] = time.monotonic() - begun
        study.record()
        self.whole = study.results()
        self.overhead: dict[str, float] = dict.fromkeys(PATHS, 0.2)

    def once(self, path: str, rng: random.Random) -> None:
        """One kill, and all until the study is whole again."""
        with self.study.here():
            stretch = PATHS[path](self.jobs, rng)
            for job in stretch.jobs:
                take_away(job)
        row = self.paths.setdefault(path, {"tried": 0, "ended before": 0, "killed": Counter(), "stages": Counter()})
        row["tried"] += 1
        name = rng.choice(sorted(SIGNALS))
        lasts = sum(self.took[job.name] for job in stretch.jobs) + self.overhead[path]
        ended, killed = self._killed(self.study.start(stretch.words), rng.uniform(0, lasts), name)
        row["ended before"] += not killed
        if killed:
            row["killed"][name] += 1
        reached = [job.stage for job in stretch.jobs if find_record(self.study.folder / job.out, job.part) is None]
        row["stages"][reached[0] if reached else "after the last"] += killed
        problem = ended or self._again(path, stretch, killed)
        if problem:
            what = " ".join(stretch.words)
            self.failures.append(f"{path}, {name}, `{what}`: {problem}")
            print(self.failures[-1], flush=True)
            for job in self.jobs.values():
                take_away(job, self.study.folder)
            self.study.finish()
            self.study.record()

    def _killed(self, process: Process, after_s: float, name: str) -> tuple[str, bool]:
        """What went wrong, and whether the signal came before the end."""
        moment = time.monotonic() + after_s
        while time.monotonic() < moment:
            if process.ended():
                return "", False
            time.sleep(0.005)
        process.kill(SIGNALS[name])
        for pid in self.served.jobs():
            with suppress(ProcessLookupError):
                os.kill(pid, SIGNALS[name])
        moment = time.monotonic() + PATIENCE_S
        while not process.ended():
            if time.monotonic() > moment:
                process.kill(signal.SIGKILL)
                process.wait()
                return f"did not end within {PATIENCE_S:g} s", True
            time.sleep(0.005)
        return "", True

    def _again(self, path: str, stretch: Stretch, killed: bool) -> str:
        """Type it again, and compare."""
        begun = time.monotonic()
        if killed:
            for words in stretch.again:
                self.study.start(words).wait()
        status, text = self.study.start(stretch.words).wait()
        if not killed:
            self.overhead[path] = max(self.overhead[path], time.monotonic() - begun)
        if status:
            return f"typed again it ended with {status}: {text[-1500:]}"
        found = self.study.results()
        wrong = [
            name for name in self.whole if name not in found or not (same(name) or found[name] == self.whole[name])
        ]
        left = sorted(found.keys() - self.whole.keys())
        return "; ".join([*(f"{name} differs" for name in wrong[:5]), *(f"{name} is left over" for name in left[:5])])


def same(name: str) -> bool:
    """Whether a file may have other bytes."""
    return Path(name).name in TIMED


def take_away(job: Job, folder: Path = Path()) -> None:
    """A job's results, as if it had never run."""
    out = folder / job.out
    record = find_record(out, job.part)
    for name in () if record is None else record.files:
        (out / name).unlink(missing_ok=True)
    record_path(out, job.part).unlink(missing_ok=True)
    if job.stage in ("train", "remedy"):
        shutil.rmtree(out.parent / "work", ignore_errors=True)


def section(result: dict[str, Any]) -> str:
    """The table, and what went wrong."""
    killed = {path: row["killed"] for path, row in result["paths"].items()}
    total = sum(sum(counts.values()) for counts in killed.values())
    lines = [
        f"{total} calls of a tiny study (two runs, remedies, probes, all figures) were killed at a random moment with all their processes "
        f"and typed again (seed {result['seed']}); after SIGKILL under Snakemake, `--unlock` first. Afterwards every file must have the bytes "
        "of an undisturbed study, but for those that say how long something took, and none may be left over. Stages ran as copies of a "
        "process that has packages loaded.",
        "",
        f"| path | {' | '.join(SIGNALS)} | ended before the signal | stage in which it was killed |",
        f"| --- |{' ---: |' * (len(SIGNALS) + 1)} --- |",
    ]
    for path, row in result["paths"].items():
        stages = ", ".join(f"{stage} {n}" for stage, n in sorted(row["stages"].items(), key=lambda item: -item[1]) if n)
        counts = " | ".join(str(row["killed"].get(name, 0)) for name in SIGNALS)
        lines.append(f"| {path} | {counts} | {row['ended before']} | {stages} |")
    n = len(result["failures"])
    lines += ["", f"{'Nothing' if not n else n} went wrong." if n != 1 else "One went wrong."]
    return "\n".join([*lines, *(f"\n* {failure}" for failure in result["failures"])])

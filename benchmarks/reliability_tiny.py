"""A tiny study in a folder of its own, and its stages as processes that begin in a hundredth of a second."""

import os
import resource
import runpy
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lgmamba.config.files import write_config_files
from lgmamba.config.study import Params, load_params
from lgmamba.files import file_digest
from lgmamba.jobs import Currency, Job, JobName, jobs_of
from workflow.scripts.preloaded import GROUPS

ROOT = Path(__file__).parents[1]
STUDY = """extends: smoke
study: tiny
train: {steps: 150, checkpoint_every_s: 0, cpu_threads: 1}
runs: {uniform_16: {}, fixed_16: {task: {lengths: {kind: fixed, value: 16}}}}
probe: {images: 12, batch_images: 12}
claims: {comparisons: []}
outputs: {reports: reports/tiny}
"""
NOT_RESULTS = {"logs", "benchmarks", "work", "frozen", "config"}
"""Folders in results/ whose files are no results."""


def preload() -> None:
    """Load what stages import, so that their processes need not."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "agg", "CUDA_VISIBLE_DEVICES": ""}
    for name in {package for _, packages in GROUPS.values() for package in packages}:
        with suppress(ImportError):
            __import__(name)


@dataclass(frozen=True)
class Study:
    """The study in its folder, a copy of the repository."""

    folder: Path

    @classmethod
    def new(cls, folder: Path) -> "Study":
        for name in ("lgmamba", "workflow", "params.yaml", "Snakefile"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / name)
        (folder / "workflow/presets/tiny.yaml").write_text(STUDY, encoding="utf-8")
        study = cls(folder)
        with study.here():
            write_config_files(study.params())
        return study

    def here(self) -> "Here":
        """The folder as the current one; configuration and records name their files relative to it."""
        return Here(self.folder)

    def params(self) -> Params:
        return load_params(self.folder / "params.yaml", "tiny")

    def jobs(self) -> dict[JobName, Job]:
        """Every job; to be used `here`."""
        return jobs_of(self.params())

    def reasons(self) -> dict[JobName, str]:
        """Why jobs are not current."""
        with self.here():
            jobs = self.jobs()
            currency = Currency(jobs)
            return {name: reason for name in jobs if (reason := currency.reason(name))}

    def finish(self) -> None:
        """Every job that is not current, undisturbed.

        Raises:
            RuntimeError: one failed; with what it said.
        """
        with self.here():
            for job in self.jobs().values():
                status, text = self.start(job.words).wait()
                if status:
                    raise RuntimeError(f"{job.line} ended with {status}:\n{text}")

    def start(self, words: Iterable[str]) -> "Process":
        """`python -m WORDS` in the folder, in a session of its own."""
        output = self.folder / f"output-{time.monotonic_ns()}.txt"
        pid = os.fork()
        if pid == 0:
            _become(list(words), self.folder, output)
        return Process(pid, output)

    def results(self) -> dict[str, str]:
        """File -> digest, of everything that the study made."""
        found = {}
        for top in ("results", "reports", "data"):
            for path in sorted((self.folder / top).rglob("*")):
                name = path.relative_to(self.folder)
                if path.is_file() and not NOT_RESULTS & set(name.parts) and not path.name.endswith(".lock"):
                    found[str(name)] = file_digest(path)
        return found


class Here:
    """A folder as the current one for a while."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __enter__(self) -> None:
        self._before = Path.cwd()
        os.chdir(self._folder)

    def __exit__(self, *_: object) -> None:
        os.chdir(self._before)


@dataclass(frozen=True)
class Process:
    """A stage that runs."""

    pid: int
    output: Path

    def wait(self) -> tuple[int, str]:
        """Exit status, negative for a signal, and what it said."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        text = self.output.read_text(encoding="utf-8", errors="replace")
        self.output.unlink()
        return status, text

    def kill(self, number: int) -> None:
        """Send a signal to the whole process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def _become(words: list[str], folder: Path, output: Path) -> None:
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(sink, number)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

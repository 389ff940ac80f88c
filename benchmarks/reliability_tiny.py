"""A tiny study in a folder of its own, and its stages as processes that begin in a hundredth of a second.

Such a process is a copy of this one, which has the packages loaded; otherwise it is what the command is when it is typed. Programs
that start commands themselves (Snakemake, DVC, the script without Snakemake) find a `python` and a `snakemake` that have a server
make the copy (`Served`).
"""

import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lgmamba.config.files import write_config_files
from lgmamba.config.study import Params, load_params
from lgmamba.files import file_digest
from lgmamba.jobs import Currency, Job, JobName, jobs_of
from workflow.scripts import preloaded

ROOT = Path(__file__).parents[1]
STUDY = """extends: smoke
study: tiny
train: {steps: 60, checkpoint_every_s: 0, cpu_threads: 1}
runs: {uniform_16: {}, fixed_16: {task: {lengths: {kind: fixed, value: 16}}}}
evaluation: {images: 12, batch_images: 12}
claims: {comparisons: []}
outputs: {reports: reports/tiny}
"""
NOT_RESULTS = {"logs", "benchmarks", "work", "frozen", "config", "markers"}
"""Folders in results/ whose files are no results."""
TIMED = {
    "train.json", "history.parquet", "evaluation.json", "probes.json", "remedies.json", "a_mult.json", "runs.parquet",
    "remedies_cost.parquet", "details.html", "details.md", "headline.json", "metrics.json", "record.json",
}  # fmt: skip
"""Files that say how long something took, and records of such."""
PROGRAMS = ("snakemake.cli", "dvc.cli", "dvc.repo.reproduce")
QUIET = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "agg", "CUDA_VISIBLE_DEVICES": ""}
QUIET |= {"POLARS_MAX_THREADS": "1", "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}


def preload() -> None:
    """Load what stages and programs import, so that their processes need not."""
    os.environ |= QUIET
    for name in {package for _, packages in preloaded.GROUPS.values() for package in packages} | {*PROGRAMS}:
        with suppress(ImportError):
            __import__(name)


PROGRAM = """#!{python} -SE
# Has a copy of a process with packages loaded run the command.
import os, sys
sys.path.insert(0, {root!r})
from workflow.scripts import preloaded
words = {words!r} + sys.argv[1:]
if words[0] == "-SE":  # the workflow's own way to such a process
    del words[:2]
if "serve" in words[:2]:  # the workflow's own such process: this one does for it
    os.symlink({folder!r} + "/all", os.path.join(*words[-2:]))
    sys.stdin.read()
    sys.exit()
os.environ[preloaded.FOLDER] = {folder!r}
preloaded.group_of = lambda stage: "all"
sys.exit(preloaded.call(words))
"""


class Served:
    """A process that makes copies of itself for `python -m ...` and `snakemake` of whoever has `bin` on PATH.

    Args:
        folder: of its own, short.
    """

    def __init__(self, folder: Path):
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for name, words in {"python": [], "snakemake": ["-m", "snakemake"]}.items():
            text = PROGRAM.format(python=sys.executable, root=str(ROOT), words=words, folder=str(folder))
            (self.bin / name).write_text(text, encoding="utf-8")
            (self.bin / name).chmod(0o755)
        closes, self._kept = os.pipe()  # with this process, however it ends
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._kept)
            os.dup2(closes, 0)
            self._serve(folder)
        os.close(closes)
        while not (folder / "all").exists():
            time.sleep(0.01)

    def close(self) -> None:
        """End, with the last copy."""
        os.close(self._kept)
        os.waitpid(self._pid, 0)

    def environment(self) -> dict[str, str]:
        """Variables of processes that are to find it."""
        return {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}

    def jobs(self) -> list[int]:
        """The copies that run."""
        return [
            int(pid) for pid in Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text(encoding="utf-8").split()
        ]

    def _serve(self, folder: Path) -> None:
        status = 1
        try:
            os.setsid()
            for number in preloaded.PASSED_ON:
                signal.signal(number, signal.SIG_IGN)
            preloaded.GROUPS["all"] = ((), ())
            request = preloaded.serve(str(folder), "all")
            if request is not None:
                sys.executable = str(self.bin / "python")
                preloaded.become(request)
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


def copy_repository(folder: Path) -> None:
    """What a study needs of the repository, without compiled modules."""
    for name in ("lgmamba", "workflow", "params.yaml", "Snakefile", "profiles"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)


def made_files(folder: Path, tops: Iterable[str] = ("results", "reports", "data")) -> Iterator[Path]:
    """Every file that a study made in a copy of the repository, without logs and locks."""
    for top in tops:
        for path in sorted((folder / top).rglob("*")):
            parts = path.relative_to(folder).parts
            if path.is_file() and not NOT_RESULTS & set(parts) and not path.name.endswith(".lock"):
                yield path


def _copy_with_tiny(folder: Path) -> None:
    copy_repository(folder)
    (folder / "workflow/presets/tiny.yaml").write_text(STUDY, encoding="utf-8")


@dataclass(frozen=True)
class Study:
    """The study in its folder, a copy of the repository."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    preset: str | None = "tiny"

    @classmethod
    def new(cls, folder: Path, environment: dict[str, str] | None = None) -> "Study":
        """A preset in an empty folder; `environment`: further variables of its processes."""
        _copy_with_tiny(folder)
        study = cls(folder, environment or {})
        with study.here():
            write_config_files(study.params())
        return study

    @classmethod
    def recorded(cls, folder: Path, environment: dict[str, str] | None = None) -> "Study":
        """The same as params.yaml of a repository that git and DVC look after."""
        _copy_with_tiny(folder)
        for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
        with Here(folder):
            values = cls(folder).params().model_dump(mode="json")
        del values["outputs"]  # dvc.yaml names the folders that a study has by default
        values |= {"probes": None, "tracking": {"kind": "none"}}  # nor has it that stage
        (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
        study = cls(folder, environment or {}, preset=None)
        with study.here():
            write_config_files(study.params())
        return study

    def here(self) -> "Here":
        """The folder as the current one; configuration and records name their files relative to it."""
        return Here(self.folder)

    def params(self) -> Params:
        return load_params(self.folder / "params.yaml", self.preset)

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

    def record(self) -> None:
        """Have DVC run and note every stage, where it looks after the study.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        if self.preset is None:
            status, text = self.start(("dvc", "repro")).wait()
            if status:
                raise RuntimeError(f"dvc repro ended with {status}:\n{text}")

    def start(self, words: Iterable[str]) -> "Process":
        """`python -m WORDS`, or `python WORDS` where the first is a file, in the folder, in a session of its own."""
        output = self.folder / f"output-{time.monotonic_ns()}.txt"
        pid = os.fork()
        if pid == 0:
            _become(list(words), self, output)
        return Process(pid, output)

    def results(self) -> dict[str, str]:
        """File -> digest, of everything that the study made."""
        return {str(path.relative_to(self.folder)): file_digest(path) for path in made_files(self.folder)}


class Here:
    """A folder as the current one for a while."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __enter__(self) -> None:
        self._before = Path.cwd()
        os.chdir(self._folder)

    def __exit__(self, *_: object) -> None:
        os.chdir(self._before)


@dataclass
class Process:
    """A stage that runs."""

    pid: int
    output: Path
    status: int | None = None

    def ended(self) -> bool:
        """Whether it did; then `status` is its exit status."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def wait(self) -> tuple[int, str]:
        """Exit status, negative for a signal, and what it said."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) if self.status is None else self.status
        text = self.output.read_text(encoding="utf-8", errors="replace")
        self.output.unlink()
        return status, text

    def kill(self, number: int) -> None:
        """Send a signal to the whole process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def _become(words: list[str], study: Study, output: Path) -> None:
    status = 1
    try:
        os.setsid()
        os.chdir(study.folder)
        os.environ |= study.environment
        if program := shutil.which("python", path=study.environment.get("PATH", "")):
            sys.executable = program
        sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(sink, number)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        sys.argv = words
        if words[0].endswith(".py"):
            sys.path[0] = str(Path(words[0]).parent)
            runpy.run_path(words[0], run_name="__main__")
        else:
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

"""Copies of the repository to run Snakemake and DVC in, as a person would: as programs, by their names."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from lgmamba.config.study import load_params
from tests.waiting import HANGS
from tests.workflow import served

ROOT = Path(__file__).parents[2]
HIDDEN = {".dvc", ".dvcignore", ".gitignore"}
"""What is copied of the names that begin with a dot."""
NOT_COPIED = {"results", "data", "mlflow", "tests", "reports", "docs", "benchmarks", "dvc_plots", "dvc.lock"}
NOT_COPIED |= {"cache", "tmp", "config.local"}


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository."""

    path: Path

    def run(self, *command: str, ok: bool = True, **variables: str) -> str:
        """Run a program of this environment there; returns what it printed, and fails if it did (or if not, for ok=False)."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=environment() | variables,
            text=True,
            timeout=HANGS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert (done.returncode == 0) == ok, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout

    def snakemake(self, *options: str, ok: bool = True) -> str:
        """`snakemake --cores 4 OPTIONS`, without the seconds that loading it takes."""
        return self.run(*served.snakemake(*options), ok=ok, LGMAMBA_PRELOADED=served.folder("snakemake"))

    def planned(self, *options: str) -> dict[str, int]:
        """Rule -> jobs that a call would run."""
        return planned(self.snakemake("--dry-run", *options))

    def git(self, *args: str) -> str:
        who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
        return self.run("git", *who, *args)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", message)


def planned(text: str) -> dict[str, int]:
    """Rule -> number of jobs, from Snakemake's table; empty if there is nothing to do."""
    if "Nothing to be done" in text:
        return {}
    table = text.split("Job stats:")[-1].splitlines()
    rows = [line.split() for line in table if len(line.split()) == 2 and line.split()[1].isdigit()]
    return {rule: int(n) for rule, n in rows if rule not in ("total", "all", "figures")}


def environment() -> dict[str, str]:
    """The activated environment, without conda, without a GPU, and without a call home."""
    # Without compiled modules (PYTHONDONTWRITEBYTECODE), each of the many programs would compile its packages anew.
    not_wanted = ("SNAKEMAKE", "MLFLOW_", "DVC_", "PYTEST", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    env = {k: v for k, v in os.environ.items() if not k.startswith(not_wanted)}
    folders = [p for p in env["PATH"].split(os.pathsep) if not (Path(p) / "conda").exists()]
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), *folders])
    return env | {
        "CUDA_VISIBLE_DEVICES": "",
        "DVC_NO_ANALYTICS": "1",
        "ITERATIVE_DO_NOT_TRACK": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }


def copy_repository(to: Path) -> Checkout:
    """With what Python compiled of it, so that the copy's programs need not; another process may be writing that just now."""
    half_written = shutil.ignore_patterns("*.pyc.*")

    def not_copied(folder: str, names: list[str]) -> set[str]:
        hidden = {n for n in names if n in NOT_COPIED or (n.startswith(".") and n not in HIDDEN)}
        return hidden | half_written(folder, names)

    shutil.copytree(ROOT, to, ignore=not_copied)
    shutil.copytree(ROOT / "lgmamba", to / "lgmamba", dirs_exist_ok=True, ignore=half_written)
    checkout = Checkout(to)
    checkout.git("init", "--quiet", ".")
    checkout.commit("copy")
    return checkout


def write_small_study(root: Path, *, chains_only: bool = False) -> None:
    """params.yaml <- the smoke preset <- two runs, one seed, tracked: what is slow here is starting programs, not training.

    Args:
        root: the repository.
        chains_only: neither remedies nor probes, and so half as many jobs.
    """
    params = load_params(root / "params.yaml", preset="smoke")
    values = params.model_dump(mode="json")
    pair = params.claims.comparisons[0]
    values["runs"] = {name: values["runs"][name] for name in (pair.generalist, pair.adaptive)}
    values["claims"]["comparisons"] = [pair.model_dump()]
    values["seeds"] = values["seeds"][:1]
    if chains_only:
        values |= {"remedy_evaluation": None, "remedies": [], "probes": None}
        values["claims"] |= {"primary": []}
    values["study"] = "small"
    del values["outputs"]  # reports/small: a folder that git does not ignore, as in the default study
    values["tracking"] = {"kind": "mlflow", "store": "mlflow"}
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.slurm.instance import Cluster
from tests.waiting import HANGS
from tests.workflow.checkouts import Checkout, copy_repository, environment, write_small_study

KEPT = "LGMAMBA_SLURM_LOG"
"""Variable with the path of a file to which everything is added that the calls print."""
PROFILE = "workflow/profiles/slurm"
QUICK = (
    "--slurm-init-seconds-before-status-checks",
    "1",
    "--seconds-between-status-checks",
    "2",
    "--latency-wait",
    "60",
)
"""A private cluster may be asked more often than one that is shared."""
ACCOUNT = ("--states=all", "--sort=i", "--format=%.5i %.10T %.8M %.9l %.9P %.7m %k")
"""Every job with its state, the time it took, and the limits, partition and memory that it asked for."""


@dataclass(frozen=True)
class Submitting:
    """A copy of the repository whose jobs go to a cluster."""

    cluster: Cluster
    checkout: Checkout

    @property
    def path(self) -> Path:
        return self.checkout.path

    def start(self, *options: str, profile: str = PROFILE) -> subprocess.Popen[str]:
        """A call of Snakemake with the shipped profile, or with another one."""
        return subprocess.Popen(
            ["snakemake", "--workflow-profile", profile, *QUICK, *options],
            cwd=self.path,
            env=self.cluster.environment(environment()) | {"PYTHONPATH": plug_in_folder()},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=interruptible,
        )

    def run(self, *options: str, ok: bool = True) -> str:
        return ended(self.start(*options), ok)

    def own_profile(self, name: str, defaults: dict[str, object], **of_rules: dict[str, object]) -> str:
        """A copy of the shipped profile with other resources, made as docs/cluster.md says; returns its folder.

        Args:
            name: of the copy.
            defaults: added to `default-resources`.
            of_rules: rule -> what is added to its `set-resources`.
        """
        shutil.copytree(self.path / PROFILE, self.path / name)
        config = self.path / name / "config.yaml"
        values = yaml.safe_load(config.read_text())
        values["default-resources"] |= defaults
        for rule, resources in of_rules.items():
            values["set-resources"][rule] |= resources
        config.write_text(yaml.safe_dump(values))
        return name

    def jobs(self, rule: str) -> list[dict[str, str]]:
        """What SLURM knows of the jobs of a rule, oldest first."""
        found = [job for job in self.cluster.jobs() if job.get("Comment", "").startswith(f"rule_{rule}")]
        return sorted(found, key=lambda job: int(job["JobId"]))

    def states(self, rule: str) -> list[str]:
        return [job["JobState"] for job in self.jobs(rule)]


def plug_in_folder() -> str:
    """Where Snakemake finds its plug-in; that may be a folder beside the environment."""
    spec = find_spec("snakemake_executor_plugin_slurm")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parents[1])


def interruptible() -> None:
    """Also where the tests run in the background of a shell, whose programs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(process: subprocess.Popen[str], ok: bool = True) -> str:
    """What a call printed, once it has ended as expected."""
    out, _ = process.communicate(timeout=HANGS)
    assert (process.returncode == 0) == ok, f"{process.args} ended with {process.returncode}:\n{out[-6000:]}"
    keep(process.args, out)
    return out


def keep(words: Sequence[str], out: str) -> None:
    """Add what a command printed to the log that is kept, if there is to be one."""
    if KEPT in os.environ:
        with open(os.environ[KEPT], "a", encoding="utf-8") as log:
            print(f"$ {shlex.join(words)}\n{out}", file=log)


@pytest.fixture(scope="session")
def folder():
    """Short, since sockets lie in it."""
    path = Path(tempfile.mkdtemp(prefix="lgmamba-slurm-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def submitting(folder) -> Submitting:
    """The small study, none of it made yet, and a cluster of one node."""
    checkout = copy_repository(folder / "repository")
    write_small_study(checkout.path, chains_only=True)  # every job starts Snakemake twice
    with Cluster(folder / "cluster", cpus=4, memory_mb=64000) as cluster:
        yield Submitting(cluster, checkout)
        keep(("squeue", *ACCOUNT), cluster.ask("squeue", *ACCOUNT))

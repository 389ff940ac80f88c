"""A SLURM cluster of one node in a folder of its own: munge key, ports, configuration, state and logs lie there.

Nothing outside the folder is touched, and no service is left running. Programs find the cluster through `environment()`: it
puts a folder with the usual commands (sbatch, squeue, ...) first on PATH, each of which says which cluster is meant. The
variable SLURM_CONF alone would not do: the daemon strips it from jobs, and so does the plug-in when it runs in one.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.waiting import until

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sacct", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
"""Where daemons lie is not on everybody's PATH."""

CONF = """\
ClusterName=lgmamba
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=15
SlurmctldTimeout=30
KillWait=5
MinJobAge=86400
SchedulerParameters=bf_interval=1,sched_interval=1,requeue_setup_env_fail
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=other Nodes=ALL MaxTime=INFINITE State=UP
"""
GRES = "Name=gpu File=/dev/null\n"
"""A GPU that is only counted."""


def missing() -> str | None:
    """Which programs are not installed here, for people; None where all are."""
    names = [name for name in (*DAEMONS, *COMMANDS) if shutil.which(name, path=PLACES) is None]
    return f"not installed: {', '.join(names)} (apt-get install slurmctld slurmd slurm-client munge)" if names else None


class Cluster:
    """A running cluster; leave the `with` block to end it.

    Args:
        folder: empty; a socket lies in it, so that its path must be short (under 90 characters).
        cpus: of the node, as SLURM is told; may be more than the machine has, as long as the largest job fits.
        memory_mb: of the node, as SLURM is told.
    """

    def __init__(self, folder: Path, cpus: int, memory_mb: int):
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        self._values = {"cpus": cpus, "memory_mb": memory_mb}

    def __enter__(self) -> "Cluster":
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        conf = CONF.format(
            folder=self.folder, host=self.host, user=getpass.getuser(), ports=_free_ports(2), **self._values
        )
        (self.folder / "slurm.conf").write_text(conf)
        (self.folder / "gres.conf").write_text(GRES)
        for name in COMMANDS:
            path = self.folder / "bin" / name
            path.write_text(f'#!/bin/sh\nexport SLURM_CONF={self.folder}/slurm.conf\nexec {_program(name)} "$@"\n')
            path.chmod(0o755)
        try:
            self._start_munge()
            self._call(_program("slurmctld"), "-c", "-f", self.folder / "slurm.conf")
            self.start_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.processes():
            self.kill_node()
        for name in ("slurmctld", "munged"):
            if (pid := self._pid(name)) is not None:
                os.kill(pid, signal.SIGTERM)
                until(lambda pid=pid: not _alive(pid), f"{name} to end")

    def environment(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """The variables of a program that is to use this cluster."""
        clean = {name: value for name, value in base.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        return clean | {"PATH": f"{self.folder / 'bin'}{os.pathsep}{base['PATH']}"}

    def start_node(self) -> None:
        """Start the node's daemon, and wait until the node takes jobs."""
        self._call(_program("slurmd"), "-f", self.folder / "slurm.conf")
        until(lambda: self.node_state() in ("idle", "mixed", "allocated"), "the node to take jobs")

    def kill_node(self) -> None:
        """What a loss of power does: the daemon and everything that runs on the node is killed at once."""
        for pid in self.processes():
            _kill(pid)
        until(lambda: not self.processes(), "the node's processes to end")
        (self.folder / "slurmd.pid").unlink(missing_ok=True)

    def processes(self) -> list[int]:
        """The node's daemon, its jobs, and what they started."""
        daemon = self._pid("slurmd")
        tops = [] if daemon is None else [daemon]
        children: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
                command = (path / "cmdline").read_bytes()
            except OSError:  # it ended
                continue
            pid = int(path.name)
            children.setdefault(parent, []).append(pid)
            if command.startswith(b"slurmstepd:") and self._is_mine(path):
                tops.append(pid)
        found = []
        while tops:
            pid = tops.pop()
            if pid not in found and _alive(pid):
                found.append(pid)
            tops += children.get(pid, [])
        return found

    def node_state(self) -> str:
        """One word of sinfo, such as idle, mixed, down."""
        return self.ask("sinfo", "-h", "-o", "%T").strip().rstrip("*")

    def jobs(self) -> list[dict[str, str]]:
        """Every job that SLURM still remembers, by the fields of `scontrol show job`."""
        lines = self.ask("scontrol", "--oneliner", "show", "job").splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines if "JobId=" in line]

    def ask(self, command: str, *words: str) -> str:
        """What one of SLURM's commands prints."""
        done = subprocess.run([self.folder / "bin" / command, *words], capture_output=True, text=True, timeout=60)
        return done.stdout

    def _start_munge(self) -> None:
        options = {name: self.folder / f"munge.{name}" for name in ("socket", "key", "log", "seed")}
        words = [f"--{'key-file' if name == 'key' else f'{name}-file'}={path}" for name, path in options.items()]
        words[0] = f"--socket={options['socket']}"
        self._call(_program("munged"), "--force", f"--pid-file={self.folder / 'munged.pid'}", *words)

    def _call(self, *words: str | Path) -> None:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}")

    def _pid(self, name: str) -> int | None:
        try:
            pid = int((self.folder / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if _alive(pid) else None

    def _is_mine(self, process: Path) -> bool:
        """Whether a job's supervisor was started by this cluster: its working files lie here."""
        try:
            return any(str(self.folder) in os.readlink(link) for link in (process / "fd").iterdir())
        except OSError:
            return False


def _program(name: str) -> str:
    path = shutil.which(name, path=PLACES)
    assert path is not None, missing()
    return path


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports

"""Programs in copies of a process that has their packages loaded: most that a plan or a tiny training costs is loading them.

`workflow/scripts/preloaded.py` does that, as it does for the jobs of a call; tests/workflow/test_preloaded.py shows that what runs
so is what runs when it is typed. Nothing of this project is loaded beforehand, so that edited code acts.
"""

import atexit
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
SNAKEMAKE = "-m", "snakemake", "--cores"
"""How served calls begin; by the word after the module `preloaded` finds the process that serves them."""
SNAKEMAKES = (
    "snakemake.cli",
    "snakemake.report.html_reporter",
    "snakemake.storage",
    "snakemake.profiles",
    "smart_open",
)
PACKAGES = (*SNAKEMAKES, "filelock", "pydantic", "ruamel.yaml", "rich.table", "typer")


def python(*words: str) -> list[str]:
    """What runs `python WORDS` in such a copy where LGMAMBA_PRELOADED is a `folder`, and elsewhere in a process of its own."""
    return [sys.executable, "-SE", __file__, *words]


def snakemake(*options: str) -> list[str]:
    """The same of `snakemake --cores 4 OPTIONS`."""
    return python(*SNAKEMAKE, "4", *options)


def folder(group: str, python_path: str = "") -> str:
    """Where a process is served that has the packages of a group loaded; none but on Linux.

    All processes of the tests share one: it is that of the process that asked first, and ends with it. Who comes later starts another.

    Args:
        group: of `preloaded.GROUPS`, or snakemake.
        python_path: PYTHONPATH of that process and its copies.
    """
    from filelock import FileLock  # here, since the program below needs the standard library alone

    tests = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    who = hashlib.sha256("\0".join((tests, group, python_path)).encode()).hexdigest()[:16]
    known = os.path.join(tempfile.gettempdir(), f"lgmamba-tests-{who}")
    with FileLock(f"{known}.lock"):
        served = os.readlink(known) if os.path.islink(known) else ""
        if not os.path.exists(os.path.join(served, group)):
            served = _serve(group, python_path)
            os.symlink(served, f"{known}.new")
            os.replace(f"{known}.new", known)
            atexit.register(_forget, known, served)
    return served


def _serve(group: str, python_path: str) -> str:
    served = tempfile.mkdtemp(prefix="lgmamba-tests-")
    if sys.platform != "linux":
        return served
    server = subprocess.Popen(
        [sys.executable, __file__, "serve", served, group],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": python_path},
        start_new_session=True,
    )
    atexit.register(_end, server, served)
    while server.poll() is None and not os.path.exists(os.path.join(served, group)):
        time.sleep(0.01)
    return served


def _end(server: subprocess.Popen, served: str) -> None:
    """It ends once nobody holds its input, and its copies have ended."""
    server.stdin.close()
    server.wait()
    shutil.rmtree(served, ignore_errors=True)


def _forget(known: str, served: str) -> None:
    from filelock import FileLock

    with FileLock(f"{known}.lock"):
        if os.path.islink(known) and os.readlink(known) == served:
            os.unlink(known)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{known}.lock")


if __name__ == "__main__":
    sys.path[0] = str(SCRIPTS)
    import preloaded

    stages, packages = preloaded.GROUPS["models"]
    preloaded.GROUPS = {"models": (("show", *stages), packages), "snakemake": (("--cores",), PACKAGES)}
    preloaded.main()
    os._exit(0)  # taking what is loaded apart, at the end of all tests, would be waited for

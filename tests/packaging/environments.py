"""Environments that hold this project's wheel and exactly what its metadata asks for, out of what is installed here.

An empty virtual environment with the wheel, and links to the distributions that the wheel's requirements lead to. What the wheel
does not ask for, directly or not, cannot be imported there: an undeclared dependency fails, and nothing is downloaded.
"""

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.workflow.checkouts import ROOT, environment


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Environment:
    """A Python of its own."""

    path: Path

    def run(self, *words: str | Path, cwd: Path, ok: bool = True, **variables: str) -> str:
        """Run `python ...` there, outside the checkout; returns all that it printed."""
        env = environment() | {"PATH": f"{self.path / 'bin'}:/usr/bin:/bin"} | variables
        env.pop("PYTHONPATH", None)
        command = [self.path / "bin" / "python", *words]
        done = subprocess.run(command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert (done.returncode == 0) == ok, done.stdout[-6000:]
        return done.stdout


def install(wheel: Path, path: Path, *extras: str) -> Environment:
    """An empty environment at `path` with the wheel, and with what it needs with these extras."""
    venv.create(path, symlinks=True)
    python = path / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    return _with_needs(path, *extras)


def with_extras(installed: Environment, path: Path, *extras: str) -> Environment:
    """Another one at `path`, with the same files of the wheel, which pip has compiled, and with these extras."""
    venv.create(path, symlinks=True)
    for files in _site(installed.path).glob("lgmamba*"):
        shutil.copytree(files, _site(path) / files.name)
    return _with_needs(path, *extras)


def _site(path: Path) -> Path:
    (site,) = path.glob("lib/python*/site-packages")
    return site


def _with_needs(path: Path, *extras: str) -> Environment:
    (info,) = _site(path).glob("lgmamba-*.dist-info")
    for name in closure(PathDistribution(info), *extras):
        _link(distribution(name), _site(path))
    return Environment(path)


def closure(start: Distribution, *extras: str) -> set[str]:
    """Names of all distributions that one needs with these extras, itself left out."""
    own = canonicalize_name(start.metadata["Name"])
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(start, frozenset(extras))]
    while waiting:
        of, asked = waiting.pop()
        for line in of.requires or ():
            wanted = Requirement(line)
            if wanted.marker is not None and not any(wanted.marker.evaluate({"extra": e}) for e in (asked or {""})):
                continue
            step = (canonicalize_name(wanted.name), frozenset(wanted.extras))
            if step not in found:
                found.add(step)
                waiting.append((start if step[0] == own else distribution(step[0]), step[1]))
    return {name for name, _ in found} - {own}


def _link(of: Distribution, site: Path) -> None:
    """Everything of a distribution at the top of its folder, linked into another one."""
    folder = Path(str(of.locate_file("")))
    for name in {file.parts[0] for file in of.files or ()} - {"..", "__pycache__"}:
        target = site / name
        if not os.path.lexists(target):
            target.symlink_to(folder / name)

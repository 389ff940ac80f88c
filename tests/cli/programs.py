"""The command line as a person meets it: what it prints, and how it ends."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lgmamba import cli
from tests.waiting import HANGS
from tests.workflow.checkouts import ROOT, environment


@dataclass(frozen=True)
class Ended:
    """A call that is over."""

    code: int
    out: str
    err: str


class Caller:
    """Calls `lgmamba` in this process, without the seconds that a new one takes."""

    def __init__(self, monkeypatch, capsys):
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> Ended:
        self.monkeypatch.setattr(sys, "argv", ["lgmamba", *map(str, words)])
        self.capsys.readouterr()
        before = signal.getsignal(signal.SIGTERM)
        try:
            cli.main()
            code = 0
        except SystemExit as e:
            code = e.code or 0
        finally:
            signal.signal(signal.SIGTERM, before)  # which the command line sets for its process
        return Ended(code, *self.capsys.readouterr())


def program(*words: object, cwd: Path = ROOT, **variables: str) -> Ended:
    """The real process, `python -m lgmamba ...`."""
    env = environment() | {"PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, timeout=HANGS
    )
    return Ended(done.returncode, done.stdout, done.stderr)

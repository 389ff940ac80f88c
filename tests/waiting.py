"""How a test waits for another program: no test depends on the clock, only a program that hangs ends one."""

import time
from collections.abc import Callable

HANGS = 3600
"""Seconds that no program of the tests takes, on the busiest machine."""


def until(found: Callable[[], object], what: str, every_s: float = 0.2) -> None:
    """Wait for something that a program is about to do.

    Raises:
        TimeoutError: it did not, so the program hangs; says what was awaited.
    """
    ends = time.monotonic() + HANGS
    while not found():
        if time.monotonic() > ends:
            raise TimeoutError(f"waited {HANGS} s for {what}")
        time.sleep(every_s)

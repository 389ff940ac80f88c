"""Around a stage that makes a result: never over another's, never twice, never two processes at once."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout

from lgmamba.records import Key, reason_to_make, refuse_other

log = logging.getLogger(__name__)


@contextmanager
def making(out: Path, key: Callable[[], Key], part: str | None = None, alone: bool = True) -> Iterator[bool]:
    """Hold a result while it is made.

        with making(out, lambda: train_key(run, images)) as needed:
            if needed:
                ...

    A process that finds another one at work on it waits, also for one that outlived the call that started it.

    Args:
        out: folder of the result.
        key: what it is to be made from; asked once nobody else works on it.
        part: name of the result, where the folder holds several.
        alone: whether one process at a time may work on it; a result that takes a second need not be held.
    Yields:
        whether it has to be made; it has not where it is there, whole, and made from exactly this.
    Raises:
        ArtefactError: the folder holds the result of another study, run or seed.
    """
    with held(out.parent / f".{out.name}.lock", str(out)) if alone else nullcontext():
        wanted = key()
        refuse_other(wanted, out, part)
        yield reason_to_make(wanted, out, part) is not None


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file, waiting if need be; it is free again when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.warning("another process is making %s: waiting for it", what)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()

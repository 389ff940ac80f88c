"""Options that several commands share, and what the environment may say: validated like params.yaml, before anything runs."""

import errno
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from lgmamba.config.base import ConfigError

Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="auto = CUDA where there is one; which GPU: CUDA_VISIBLE_DEVICES=1"),
]
Workers = Annotated[int | None, typer.Option(min=1, max=1024, help="cores to decode on; all by default")]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
HINTS = {
    errno.EACCES: "; look at the permissions of the file and its folders",
    errno.EPERM: "; look at the permissions of the file and its folders",
    errno.EROFS: "; name a place that can be written to",
    errno.ENOSPC: "; make room, and type the same command again",
    errno.EDQUOT: "; make room, and type the same command again",
    errno.EMFILE: "; raise `ulimit -n`",
    errno.EFBIG: "; raise `ulimit -f`, and type the same command again",
}
OF_PART = re.compile(r"\.([^/]+)\.\d+\.part$")
"""What `lgmamba.files.atomic_path` writes to, whose end is the file that is wanted."""
OF_SAFETENSORS = re.compile(r"I/O error: .* \(os error (\d+)\)")
"""The words in which safetensors says what the operating system refused; which file, it does not say."""


def log_level(environ: Mapping[str, str] = os.environ) -> int:
    """How much this package says on standard error, by LGMAMBA_LOG.

    Raises:
        ConfigError: another word than those of `LEVELS`.
    """
    given = environ.get("LGMAMBA_LOG") or "INFO"
    if given.upper() not in LEVELS:
        raise ConfigError(f"LGMAMBA_LOG: found {given!r}, expected one of {', '.join(LEVELS).lower()}")
    return logging.getLevelNamesMapping()[given.upper()]


def told_of_system(error: OSError) -> str | None:
    """What the operating system refused, for a person; None where it is no matter of files and devices."""
    if error.errno is None or not (error.filename or error.errno in HINTS):
        return None
    given = [str(name) for name in (error.filename, error.filename2) if name is not None]
    names = " -> ".join(dict.fromkeys(OF_PART.sub(r"\1", name) for name in given))
    return f"{names or 'writing'}: {error.strerror}{HINTS.get(error.errno, '')}"


def told_of_tensors(error: Exception) -> str | None:
    """The same where safetensors could not write a file; None where it is another error."""
    found = OF_SAFETENSORS.search(str(error)) if type(error).__name__ == "SafetensorError" else None
    if found is None:
        return None
    number = int(found[1])
    return f"a file of tensors: {os.strerror(number)}{HINTS.get(number, '')}"


def say_size(out: Path) -> None:
    """Tell how much lies in a folder."""
    size = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    typer.echo(f"{out}: {size / 1e6:.2f} MB")


def say_current(out: Path) -> None:
    """Tell that a command has nothing to do."""
    typer.echo(f"{out}: is current, made from exactly this; nothing to do")

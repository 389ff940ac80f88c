"""Where compiled kernels are kept between processes."""

import os
from pathlib import Path


class CacheError(RuntimeError):
    """The cache folder cannot be used; the message names it and says what to set."""


def cache_folder() -> Path:
    """$LGMAMBA_CACHE, else lgmamba in $XDG_CACHE_HOME or in ~/.cache; made if missing, perhaps not writable.

    Raises:
        CacheError: it cannot be made, or there is no home folder.
    """
    try:
        folder = _wanted()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        raise CacheError(f"the cache folder {folder} cannot be made ({e}); set LGMAMBA_CACHE to one that can") from e
    return folder


def _wanted() -> Path:
    if os.environ.get("LGMAMBA_CACHE"):
        return Path(os.environ["LGMAMBA_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "lgmamba"
    try:
        return Path.home() / ".cache" / "lgmamba"
    except RuntimeError as e:  # no $HOME and no such user
        raise CacheError("there is no home folder to keep compiled kernels in; set LGMAMBA_CACHE to a folder") from e


def refuses_programs(folder: Path) -> bool:
    """Whether the folder is on a file system whose files cannot be loaded as code (mounted noexec)."""
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0))

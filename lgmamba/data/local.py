"""Images on this machine, looked for before any job runs: nothing is opened, and no library that reads images is imported."""

import difflib
import glob
from pathlib import Path

from lgmamba.config.data import GlyphsSource, ImageFolderSource, Source
from lgmamba.data.errors import DataError

GLOB_CHARACTERS = frozenset("*?[")
SCHEMES = ("https://", "http://", "hf://")


def is_remote(path: str) -> bool:
    """Whether a path is an address."""
    return path.startswith(SCHEMES)


def check_there(source: Source) -> None:
    """That the files and folders which a source names are there; what lies behind an address is not looked at.

    Raises:
        DataError: what is missing, and from where it was looked for.
    """
    for given in (getattr(source, name, None) for name in ("path", "test_path")):  # some sources need no file
        for path in [given] if isinstance(given, str) else given or []:
            if isinstance(source, ImageFolderSource | GlyphsSource):
                check_folder(
                    Path(path).expanduser(),
                    "fonts" if isinstance(source, GlyphsSource) else "images, or of class folders",
                )
            elif not is_remote(path):
                find_local(path)


def check_folder(root: Path, of: str = "images, or of class folders") -> None:
    """That a folder is one; `of` says what it should hold.

    Raises:
        DataError: it is missing, or a file.
    """
    if not root.is_dir():
        found, near = ("is a file", "") if root.exists() else ("does not exist", _near(root))
        raise DataError(f"{root} {found} (looked from {Path.cwd()}){near}; expected a folder of {of}")


def find_local(pattern: str) -> list[str]:
    """Files that a path or a glob names, sorted.

    Raises:
        DataError: none, or a folder; with the nearest name.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        raise DataError(f"{pattern} is a folder, expected files; write {pattern.rstrip('/')}/*.parquet")
    if GLOB_CHARACTERS & set(pattern):
        found = sorted(p for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        if not found:
            raise DataError(
                f"no file matches {pattern} (looked from {Path.cwd()}); correct data.source.path or test_path"
            )
        return found
    raise DataError(
        f"{pattern} does not exist (looked from {Path.cwd()}){_near(path)}; put it there or correct data.source.path or test_path; "
        f"docs/data.md says where images come from"
    )


def _near(path: Path) -> str:
    """The nearest name beside a path that does not exist."""
    there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""

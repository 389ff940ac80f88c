"""Where a result comes from: fingerprint of the code that made it, commit, versions, device.

`code_digest` is what lets an edited comment pass and catches an edited formula: it hashes what the interpreter would
run (the syntax tree without comments and docstrings) of one module and everything of this package that it imports.
Nothing is imported to find that out, so that Snakemake can ask at every call. Parsing 250 modules takes 2 seconds of a processor,
so what was parsed is kept beside the compiled modules, as Python keeps those.
"""

import ast
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from lgmamba.files import write_atomic

PACKAGE = Path(__file__).parent
PACKAGES = (
    "torch",
    "numpy",
    "polars",
    "pyarrow",
    "pydantic",
    "safetensors",
    "mamba-ssm",
    "scikit-learn",
    "pillow",
    "snakemake",
    "dvc",
    "mlflow",
)
OBSERVERS = ("track", "provenance", "devices", "progress", "records", "keys", "listing", "extras", "shipped")
"""Modules of this package that watch or report and change no result: a change there reruns nothing."""
NATIVE_SOURCES = (".cpp", ".cu", ".cuh", ".h")


def code_digest(entry_module: str, package: Path = PACKAGE) -> str:
    """Fingerprint of the code behind one stage.

    Args:
        entry_module: dotted name, such as "lgmamba.train.loop".
        package: folder of the package that it belongs to.
    Returns:
        SHA-256, hexadecimal. It changes with any statement of the module or of the modules of this package that it
        imports, at the top or inside functions, directly or not, and with C++ and CUDA sources and templates beside them.
        Comments, docstrings, layout and `OBSERVERS` do not count.
    Raises:
        ModuleNotFoundError: there is no such module.
    """
    digest = hashlib.sha256()
    for source in source_files(entry_module, package):
        digest.update(f"{source.relative_to(package).as_posix()}\n{_code(source)}\n".encode())
    _kept(package).write()
    return digest.hexdigest()


def _code(source: Path) -> str:
    if source.suffix == ".py":
        return _module(source)[0]
    text = source.read_text(encoding="utf-8")
    return _without_comments(text) if source.suffix in NATIVE_SOURCES else text


def source_files(entry_module: str, package: Path = PACKAGE) -> list[Path]:
    """The files whose code `code_digest` covers, sorted."""
    if _file(entry_module, package) is None:
        raise ModuleNotFoundError(f"no module {entry_module!r} under {package}")
    found: set[Path] = set()
    seen: set[str] = set()
    waiting = [entry_module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        source = _file(name, package)
        if source is None or source in found or set(name.split(".")) & set(OBSERVERS):
            continue
        found.add(source)
        waiting += _module(source)[1]
        parent = name.rpartition(".")[0]
        if parent:
            waiting.append(parent)  # importing a.b.c runs a/__init__.py and a/b/__init__.py first
    folders = {source.parent for source in found}
    native = {f for folder in folders for f in folder.iterdir() if f.suffix in NATIVE_SOURCES}
    templates = {f for folder in folders for f in (folder / "templates").glob("*") if f.is_file()}
    return sorted(found | native | templates)


def _file(name: str, package: Path) -> Path | None:
    top, *rest = name.split(".")
    if top != package.name:
        return None
    base = package.joinpath(*rest)
    return next((f for f in (base / "__init__.py", base.with_suffix(".py")) if f.is_file()), None)


def _module(source: Path) -> tuple[str, list[str]]:
    stat = source.stat()
    return _parse(source, stat.st_mtime_ns, stat.st_size)


@cache
def _parse(source: Path, _mtime: int, _size: int) -> tuple[str, list[str]]:
    """A module's code without comments and docstrings, and every dotted name that it may import."""
    written = source.read_bytes()
    kept = _kept(_top(source))
    if (found := kept.find(source, written)) is not None:
        return found
    tree = ast.parse(written, str(source))
    names = [name for node in ast.walk(tree) for name in _imported(node, source)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Any bare string is a comment to the interpreter, the ones that document an attribute included.
            node.body = [statement for statement in node.body if not _is_text(statement)] or [ast.Pass()]
    parsed = ast.unparse(tree), names
    kept.add(source, written, parsed)
    return parsed


class _Kept:
    """What was parsed of a package: module -> digest of its text, and what `_parse` makes of it; in one file in `__pycache__`.

    A file that is damaged, or of another Python or other code than this module's, holds nothing. One that cannot be written is not,
    nor is it where Python is told to write no compiled modules.
    """

    def __init__(self, package: Path):
        self.package = package
        self.file: Path | None = None
        with suppress(NotImplementedError):  # a Python that never keeps compiled modules
            self.file = Path(cache_from_source(str(package / "provenance.py"))).with_suffix(".json")
        self.of = [sys.version, hashlib.sha256(Path(__file__).read_bytes()).hexdigest()]
        self.modules: dict[str, Any] = {}
        self.changed = False
        if self.file is not None:
            with suppress(OSError, ValueError, KeyError, TypeError):  # absent or damaged
                read = json.loads(self.file.read_bytes())
                self.modules = dict(read["modules"]) if read["of"] == self.of else {}

    def find(self, source: Path, written: bytes) -> tuple[str, list[str]] | None:
        """What was made of a module's text; None where it is another's, or there is none."""
        digest, *parsed = self.modules.get(self._name(source), (None,))
        return (parsed[0], parsed[1]) if digest == hashlib.sha256(written).hexdigest() else None

    def add(self, source: Path, written: bytes, parsed: tuple[str, list[str]]) -> None:
        self.modules[self._name(source)] = (hashlib.sha256(written).hexdigest(), *parsed)
        self.changed = True

    def write(self) -> None:
        """If there is something new."""
        if self.changed and self.file is not None and not sys.dont_write_bytecode:
            with suppress(OSError):
                write_atomic(self.file, json.dumps({"of": self.of, "modules": self.modules}))
        self.changed = False

    def _name(self, source: Path) -> str:
        return source.relative_to(self.package).as_posix()


_kept = cache(_Kept)


def _imported(node: ast.AST, source: Path) -> list[str]:
    """Dotted names that one node of a syntax tree may import; `from a import b` may mean a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        base = _absolute("." * node.level + base, source) if node.level else base
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        return [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return []


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _absolute(relative: str, source: Path) -> str:
    """`..a.b` as written in `source` -> dotted name from the top of the package."""
    name = relative.lstrip(".")
    folder = source.parent
    for _ in range(len(relative) - len(name) - 1):
        folder = folder.parent
    top = _top(source)
    parts = [top.name, *folder.relative_to(top).parts]
    return ".".join([*parts, name]) if name else ".".join(parts)


def _top(source: Path) -> Path:
    """Folder of the package that a module belongs to."""
    folder = source.parent
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _without_comments(code: str) -> str:
    """C++ without comments and with single spaces; for comparing, not for compiling."""
    return " ".join(re.sub(r"//[^\n]*|/\*.*?\*/", " ", code, flags=re.DOTALL).split())


def describe() -> dict[str, Any]:
    """Commit, versions and hardware of this process, as stored beside each result. Names no machine and no user."""
    return {
        "git": git_state(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": gpu_name(),
        "packages": versions(),
    }


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str | None]:
    """Package name -> installed version, or None."""

    def one(name: str) -> str | None:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    return {name: one(name) for name in packages}


@cache
def git_state() -> dict[str, Any]:
    """Commit of the source tree and whether tracked files differ from it; both None where it is no git repository's top.

    A copy without history that lies inside another repository is not that repository's.
    """
    top = _git("rev-parse", "--show-toplevel")
    commit = _git("rev-parse", "--verify", "HEAD")
    if commit is None or top is None or Path(top).resolve() != PACKAGE.parent.resolve():
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": _git("status", "--porcelain", "--untracked-files=no") != ""}


def _git(*args: str) -> str | None:
    try:
        done = subprocess.run(["git", *args], cwd=PACKAGE, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def cpu_name() -> str:
    """The processor's model name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()


def gpu_name() -> str | None:
    """Name of the CUDA device in use; None without one, or where torch has not been imported (this does not import it)."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_name()

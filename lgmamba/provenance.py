"""Where a result comes from: fingerprint of the code that made it, commit, versions, device.

`code_digest` is what lets an edited comment pass and catches an edited formula: it hashes what the interpreter would
run (the syntax tree without comments and docstrings) of one module and everything of this package that it imports.
Nothing is imported to find that out, so that Snakemake can ask at every call.
"""

import ast
import hashlib
import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

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
    waiting = [entry_module]
    while waiting:
        name = waiting.pop()
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
    tree = ast.parse(source.read_text(encoding="utf-8"), str(source))
    names = [name for node in ast.walk(tree) for name in _imported(node, source)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Any bare string is a comment to the interpreter, the ones that document an attribute included.
            node.body = [statement for statement in node.body if not _is_text(statement)] or [ast.Pass()]
    return ast.unparse(tree), names


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
    parts = [folder.name]
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
        parts.insert(0, folder.name)
    return ".".join([*parts, name]) if name else ".".join(parts)


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

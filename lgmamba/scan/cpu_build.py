"""Builds `_cpu_kernel.cpp` with the host's C++ compiler at first use and keeps the result. Glossary: `lgmamba.scan`.

The library is kept in a user cache folder under a name that holds a hash of everything it depends on: source, compiler,
flags and processor. It is written under a temporary name and renamed, so processes that race at first use each get a
whole file.

OpenMP: the object is compiled with it, but first linked without a runtime of its own, so that it resolves to the one
that torch has loaded. Two runtimes in a process would mean two pools of threads that spin for work on the same cores.
Where that does not load, the compiler's own runtime is linked; where there is none, the kernel starts `std::thread`s.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("_cpu_kernel.cpp")
HEADERS = [SOURCE.with_name(name) for name in ("_cpu_plan.h", "_cpu_simd.h")]
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread")
NATIVE = (("-march=native",), ("-mcpu=native",), ())
"""Flags for the processor at hand, best first; clang on ARM knows only the second."""
OPENMP = ("torch's", "own", "none")
"""Ways to get OpenMP threads, best first; see the module's text."""
BUILD_TIMEOUT_S = 300


class BuildError(RuntimeError):
    """No compiler, or none of the ways to build the kernel worked; the message says what to do."""


@cache
def load_kernel() -> ctypes.CDLL:
    """The compiled kernel, built if it is not in the cache.

    Raises:
        BuildError: there is no compiler, or it failed; the message holds its last words.
    """
    compiler = _compiler()
    folder = _cache_folder()
    errors = []
    for native in NATIVE:
        for openmp in OPENMP:
            try:
                return _load(_build(compiler, native, openmp, folder))
            except (BuildError, OSError) as e:
                errors.append(f"{' '.join(native) or 'no processor flag'}, OpenMP {openmp}: {e}")
    raise BuildError(f"{compiler} could not build {SOURCE.name}: " + "\n".join(errors))


def _compiler() -> str:
    """The C++ compiler: $CXX, else the first of c++, g++, clang++ on the path."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        if shutil.which(shlex.split(name)[0]):
            return name
    raise BuildError(
        f"no C++ compiler found (looked for {', '.join(names)}); install one, for example g++ or clang, or set CXX"
    )


def _cache_folder() -> Path:
    """$LGMAMBA_CACHE, else lgmamba in the user's cache folder."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("LGMAMBA_CACHE") or user_cache / "lgmamba")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        raise BuildError(f"the cache folder {folder} cannot be made ({e}); set LGMAMBA_CACHE to one that can") from e
    return folder


def _build(compiler: str, native: tuple[str, ...], openmp: str, folder: Path) -> Path:
    """Path of the library for these flags, compiled now if it is not there."""
    key = hashlib.sha256()
    version = _run([*shlex.split(compiler), "--version"])
    sources = [path.read_text() for path in (SOURCE, *HEADERS)]
    for part in (sources, version, _processor(), native, openmp, FLAGS):
        key.update(repr(part).encode())
    library = folder / f"scan_cpu_{key.hexdigest()[:20]}.so"
    if library.exists():
        return library
    log.info("building the CPU scan with %s (once per compiler and processor)", compiler)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / library.name
        command = [*shlex.split(compiler), *FLAGS, *native, str(SOURCE), "-o", str(made)]
        if openmp == "torch's":
            made_object = made.with_suffix(".o")
            unlinked = [flag for flag in FLAGS if flag != "-shared"]
            _run([*shlex.split(compiler), *unlinked, *native, "-fopenmp", "-c", str(SOURCE), "-o", str(made_object)])
            command = [*shlex.split(compiler), "-shared", str(made_object), "-o", str(made)]
        elif openmp == "own":
            command.append("-fopenmp")
        _run(command)
        _load(made)  # what does not load here is not kept
        os.replace(made, library)
    return library


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path), mode=os.RTLD_NOW)
    library.lgmamba_args_size.restype = ctypes.c_int64
    for name in ("lgmamba_forward", "lgmamba_backward"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = None
    return library


def _processor() -> str:
    """What -march=native depends on: a cache folder may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    telling = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(telling)}))


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise BuildError(f"{command[0]}: {e}") from e
    if done.returncode:
        raise BuildError(f"{shlex.join(command)} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout

"""Builds `_cpu_kernel.cpp` with the host's C++ compiler at first use and keeps the result. Glossary: `lgmamba.scan`.

The library is kept in a user cache folder under a name that holds a hash of everything it depends on (source, compiler,
flags and processor) and a hash of its own bytes, without which it is not loaded: half a library would end the process.
Before it is kept, a process of its own has called it and found the numbers right. It is renamed into place, so processes
that race at first use each get a whole file. Where the folder cannot be written to, or holds no programs (mounted noexec),
each process builds the library for itself.

OpenMP: the object is compiled with it, but first linked without a runtime of its own, so that it resolves to the one
that torch has loaded. Two runtimes in a process would mean two pools of threads that spin for work on the same cores.
Where that does not load, the compiler's own runtime is linked; where there is none, the kernel starts `std::thread`s.
"""

import ctypes
import hashlib
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from lgmamba.scan import cpu_interface
from lgmamba.scan.cache import CacheError, cache_folder, refuses_programs

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("_cpu_kernel.cpp")
HEADERS = [
    SOURCE.with_name(name) for name in ("_cpu_mix.h", "_cpu_plan.h", "_cpu_products.h", "_cpu_rows.h", "_cpu_simd.h")
]
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread")
NATIVE = (("-march=native",), ("-mcpu=native",), ())
"""Flags for the processor at hand, best first; clang on ARM knows only the second."""
OPENMP = ("torch's", "own", "none")
"""Ways to get OpenMP threads, best first; see the module's text."""
BUILD_TIMEOUT_S = 300
PROOF_TIMEOUT_S = 60


class BuildError(RuntimeError):
    """No compiler, or none of the ways to build the kernel worked; the message says what to do."""


@cache
def load_kernel() -> ctypes.CDLL:
    """The compiled kernel, built if it is not in the cache.

    Raises:
        BuildError: there is no compiler, it failed, or no folder takes a library; the message holds the last words.
    """
    compiler = _compiler()
    version = _run([*shlex.split(compiler), "--version"])
    ways = [(native, openmp) for native in NATIVE for openmp in OPENMP]
    names = {way: _name(version, *way) for way in ways}
    folder, why_not = _cache()
    if folder:
        for name in names.values():
            if library := _kept(folder, name):
                return library
    if why_not:
        log.warning("%s; the CPU scan is built for this process alone", why_not)
    errors = []
    with _scratch(None if why_not else folder) as scratch:
        for native, openmp in ways:
            try:
                made = _build(compiler, native, openmp, Path(scratch))
                if folder and not why_not:
                    made = made.rename(folder / f"{names[native, openmp]}_{_digest(made)}.so")
                return cpu_interface.load(str(made))
            except (BuildError, OSError, AttributeError) as e:
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


def _cache() -> tuple[Path | None, str | None]:
    """The cache folder, if libraries can be loaded from it, and why none can be kept there, if so."""
    try:
        folder = cache_folder()
    except CacheError as e:
        return None, str(e)
    if refuses_programs(folder):
        return None, f"the cache folder {folder} is mounted noexec; set LGMAMBA_CACHE to one that is not"
    if not os.access(folder, os.W_OK):
        return folder, f"the cache folder {folder} is not writable; set LGMAMBA_CACHE to one that is"
    return folder, None


def _scratch(folder: Path | None) -> tempfile.TemporaryDirectory:
    """A folder to build in: within the cache folder, so that the result can be renamed, or a private one."""
    try:
        scratch = tempfile.TemporaryDirectory(dir=folder, prefix="build-")
    except OSError as e:
        where = folder or "for temporary files"
        raise BuildError(f"no library can be written to the folder {where} ({e}); set LGMAMBA_CACHE") from e
    if refuses_programs(Path(scratch.name)):
        scratch.cleanup()
        raise BuildError(f"the folder {Path(scratch.name).parent} is mounted noexec; set TMPDIR or LGMAMBA_CACHE")
    return scratch


def _name(version: str, native: tuple[str, ...], openmp: str) -> str:
    """The library's name without the hash of its bytes."""
    key = hashlib.sha256()
    sources = [path.read_text() for path in (SOURCE, *HEADERS)]
    for part in (sources, version, _processor(), native, openmp, FLAGS):
        key.update(repr(part).encode())
    return f"scan_cpu_{key.hexdigest()[:20]}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _kept(folder: Path, name: str) -> ctypes.CDLL | None:
    """The library of this name from the cache; None where there is none, or only a damaged one."""
    for path in sorted(folder.glob(f"{name}_*.so")):
        try:
            if path.stem.endswith(_digest(path)):
                return cpu_interface.load(str(path))
            log.warning("%s is damaged and is built again", path)
            path.unlink()
        except (OSError, AttributeError) as e:
            log.warning("%s cannot be used (%s)", path, e)
    return None


def _build(compiler: str, native: tuple[str, ...], openmp: str, scratch: Path) -> Path:
    """Path of a library that computes right numbers, compiled now."""
    log.info("building the CPU scan with %s (once per compiler and processor)", compiler)
    made = scratch / "scan_cpu.so"
    command = [*shlex.split(compiler), *FLAGS, *native, str(SOURCE), "-o", str(made)]
    if openmp == "torch's":
        made_object = made.with_suffix(".o")
        unlinked = [flag for flag in FLAGS if flag != "-shared"]
        _run([*shlex.split(compiler), *unlinked, *native, "-fopenmp", "-c", str(SOURCE), "-o", str(made_object)])
        command = [*shlex.split(compiler), "-shared", str(made_object), "-o", str(made)]
    elif openmp == "own":
        command.append("-fopenmp")
    _run(command)
    _prove(made, openmp)
    return made


def _prove(library: Path, openmp: str) -> None:
    """Call the library once, in a process of its own."""
    loaded_before = []
    if openmp == "torch's":
        torch = importlib.util.find_spec("torch")
        assert torch is not None and torch.origin is not None
        loaded_before = [
            str(path) for path in sorted((Path(torch.origin).parent / "lib").glob("libtorch_global_deps.*"))
        ]
    _run([sys.executable, "-I", cpu_interface.__file__, str(library), *loaded_before], PROOF_TIMEOUT_S)


def _processor() -> str:
    """What -march=native depends on: a cache folder may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    telling = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(telling)}))


def _run(command: list[str], timeout_s: float = BUILD_TIMEOUT_S) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise BuildError(f"{command[0]}: {e}") from e
    if done.returncode:
        ended = f"ended by signal {-done.returncode}" if done.returncode < 0 else "failed"
        raise BuildError(f"{shlex.join(command)} {ended}: {done.stderr.strip()[-2000:]}")
    return done.stdout

"""Compiles the package's CUDA sources at first use with NVRTC, keeps the result on disk, and launches kernels.

Needs no toolkit and no host compiler: NVRTC comes with torch's CUDA wheels, its Python interface with the pip package
cuda-bindings. A source is `cuda_ptx.cu`, the settings (types and constants), then the files that the kernel names.

Compiled code lies in a user cache folder ($LGMAMBA_CACHE, else lgmamba in the user's cache folder) under a name that
holds a hash of everything it depends on: source, settings, architecture, options and compiler. It is written under a
temporary name and renamed, so processes that race at first use each get a whole file.
"""

import ctypes
import hashlib
import importlib.util
import logging
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from lgmamba.extras import install
from lgmamba.scan.cache import CacheError, cache_folder

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
INSTALL = (
    f"{install('cuda')} (cuda-bindings of torch's CUDA version, such as 'cuda-bindings==13.*'; see torch.version.cuda)"
)
OPTIONS = ("--std=c++17",)
TYPES = {torch.float32: "float", torch.bfloat16: "bf16", torch.float16: "f16"}
"""torch dtype -> name of the type in the sources."""
MIN_CAPABILITY = (8, 0)
"""Conversions to bfloat16 need it."""
SHARED_WITHOUT_ASKING = 48 * 1024
"""Bytes of shared memory that a block gets without raising its limit first."""


class CompileError(RuntimeError):
    """NVRTC refused a source; the message holds its log."""


@cache
def unavailable(device: str) -> str | None:
    """Why kernels cannot be compiled for and run on this kind of device, or None."""
    if device != "cuda":
        return f"it computes on an NVIDIA GPU, not on {device}"
    if torch.version.hip is not None or not torch.cuda.is_available():
        return "torch sees no NVIDIA GPU here; install a CUDA build of torch on a machine with one"
    if torch.cuda.get_device_capability() < MIN_CAPABILITY:
        return (
            f"it needs a GPU of compute capability {MIN_CAPABILITY}, this one has {torch.cuda.get_device_capability()}"
        )
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        return f"the package cuda-bindings is not installed; {INSTALL}"
    try:
        _compiler_version()
    except Exception as e:  # the bindings raise many types when a library is missing or of another version
        return f"cuda-bindings cannot load NVRTC or the driver ({e}); {INSTALL}"
    return None


@cache
def _compiler_version() -> tuple[int, int]:
    from cuda.bindings import driver, nvrtc

    _check(driver.cuInit(0))
    return tuple(_check(nvrtc.nvrtcVersion()))


@cache
def multiprocessors(device: int) -> int:
    """How many the GPU of this index has."""
    return torch.cuda.get_device_properties(device).multi_processor_count


@dataclass(frozen=True)
class Kernel:
    """One `extern "C"` kernel of the package, with everything that its machine code depends on but the device."""

    name: str
    files: tuple[str, ...]
    settings: tuple[tuple[str, str | int], ...]
    """Names of types (str) and constants (int), visible in all files after cuda_ptx.cu."""

    def source(self) -> str:
        """The whole source, as the compiler sees it."""
        lines = [f"using {k} = {v};" if isinstance(v, str) else f"constexpr int {k} = {v};" for k, v in self.settings]
        parts = [_read("cuda_ptx.cu"), "\n".join(lines), *(_read(name) for name in self.files)]
        return "\n".join(parts)

    def launch(
        self,
        device: int,
        grid: tuple[int, int],
        threads: int,
        shared_bytes: int,
        args: ctypes.Structure,
        overlap: bool = False,
    ):
        """Start a grid of blocks on torch's current stream; `args` is the kernel's only parameter, passed by value.

        `overlap`: it may start while the kernel launched just before ends, for whose results it waits by itself
        (`wait_for_previous_kernel` in cuda_ptx.cu). Without effect before compute capability 9.
        """
        from cuda.bindings import driver

        with torch.cuda.device(device):
            _enter_context(device)
            function = _load(self, device, shared_bytes)
            config = driver.CUlaunchConfig()
            config.gridDimX, config.gridDimY, config.gridDimZ = *grid, 1
            config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
            config.sharedMemBytes, config.hStream = shared_bytes, torch.cuda.current_stream(device).cuda_stream
            config.attrs = [_overlapping()] if overlap and torch.cuda.get_device_capability(device) >= (9, 0) else []
            config.numAttrs = len(config.attrs)
            pointers = (ctypes.c_void_p * 1)(ctypes.addressof(args))
            _check(driver.cuLaunchKernelEx(config, function, ctypes.addressof(pointers), 0))


@cache
def _overlapping():
    from cuda.bindings import driver

    attribute = driver.CUlaunchAttribute()
    attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    attribute.value.programmaticStreamSerializationAllowed = 1
    return attribute


@cache
def _read(name: str) -> str:
    return (FOLDER / name).read_text()


@cache
def _load(kernel: Kernel, device: int, shared_bytes: int):
    """The kernel's function on this device (index), with its limit of shared memory raised if needed."""
    from cuda.bindings import driver

    major, minor = torch.cuda.get_device_capability(device)
    module = _module(kernel.source(), f"sm_{major}{minor}", device)
    function = _check(driver.cuModuleGetFunction(module, kernel.name.encode()))
    if shared_bytes > SHARED_WITHOUT_ASKING:
        limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _check(driver.cuFuncSetAttribute(function, limit, shared_bytes))
    return function


@cache
def _module(source: str, arch: str, device: int):  # of each device its own
    from cuda.bindings import driver

    return _check(driver.cuModuleLoadData(compiled(source, arch)))


def _enter_context(device: int) -> None:
    """Give this thread the GPU's context if it has none, as a thread of torch's backward pass that has not touched the GPU yet.

    Torch's own calls do that for themselves, the driver's do not.
    """
    from cuda.bindings import driver

    if int(_check(driver.cuCtxGetCurrent())) == 0:
        _check(driver.cuCtxSetCurrent(_check(driver.cuDevicePrimaryCtxRetain(driver.CUdevice(device)))))


def compiled(source: str, arch: str) -> bytes:
    """Machine code of a source for an architecture such as "sm_90", from the cache or compiled now.

    Raises:
        CompileError: with the compiler's log.
    """
    key = hashlib.sha256(repr((source, arch, OPTIONS, _compiler_version())).encode()).hexdigest()[:20]
    try:
        path = cache_folder() / f"cuda_{arch}_{key}.cubin"
        if path.exists():
            return path.read_bytes()
    except (CacheError, OSError) as e:
        log.warning("%s; CUDA kernels are compiled for this process alone", e)
        return _compile(source, arch)
    log.info("compiling a CUDA kernel for %s (once per kind of input)", arch)
    code = _compile(source, arch)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as scratch:
            scratch.write(code)
        os.replace(scratch.name, path)
    except OSError as e:
        log.warning("a CUDA kernel cannot be kept in %s (%s); set LGMAMBA_CACHE", path.parent, e)
    return code


def _compile(source: str, arch: str) -> bytes:
    from cuda.bindings import nvrtc

    options = [option.encode() for option in (f"--gpu-architecture={arch}", *OPTIONS)]
    program = _check(nvrtc.nvrtcCreateProgram(source.encode(), b"lgmamba.cu", 0, None, None))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            text = bytearray(_check(nvrtc.nvrtcGetProgramLogSize(program)))
            _check(nvrtc.nvrtcGetProgramLog(program, text))
            raise CompileError(f"NVRTC could not compile for {arch}:\n{text.decode()}")
        code = bytearray(_check(nvrtc.nvrtcGetCUBINSize(program)))
        _check(nvrtc.nvrtcGetCUBIN(program, code))
        return bytes(code)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _check(result):
    """The value of a call of the bindings, which return (status, *values)."""
    status, *values = result
    if status.value != 0:
        raise RuntimeError(f"CUDA call failed: {status!r}")
    return values[0] if len(values) == 1 else tuple(values)

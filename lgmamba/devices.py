"""One GPU per process on a machine without a scheduler: the first free one, held by a lock file.

Snakemake counts GPUs (`--resources gpu=N`) but does not say which one a job gets. `claim` does: it locks the first free
device and shows the process that device only. Where LGMAMBA_JOBS_PER_GPU says 2 or more, as many processes may share a
device, evenly spread: small models leave most of a GPU idle. The lock ends with the process, however it ends. Nothing here imports
torch, because CUDA_VISIBLE_DEVICES must be set before torch looks at it.
"""

import errno
import logging
import os
import socket
import tempfile
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")

_held: list[FileLock] = []  # releasing one would free its device


def gpus(environ: MutableMapping[str, str] = os.environ, dev: Path = Path("/dev")) -> list[str]:
    """Names of the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES spells them."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(i) for i, _ in enumerate(p for p in dev.glob("nvidia*") if p.name.removeprefix("nvidia").isdigit())]


def wanted(device: str) -> int:
    """GPUs that a job needs (0 or 1) when told `device`: auto, cpu or cuda."""
    return int(device == "cuda" or (device == "auto" and bool(gpus())))


def torch_device(device: str) -> "torch.device":
    """The device that auto, cpu or cuda means here.

    Raises:
        ConfigError: another word, or cuda is asked for, but torch finds no CUDA device.
    """
    import torch

    from lgmamba.config.base import ConfigError

    if device not in DEVICES:
        raise ConfigError(
            f"device: found {device!r}, expected one of {', '.join(DEVICES)}; which GPU is chosen by CUDA_VISIBLE_DEVICES"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device: found 'cuda', but torch finds no CUDA device here (a CPU build of torch, no driver, or an empty "
            "CUDA_VISIBLE_DEVICES); expected auto or cpu on this machine"
        )
    return torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")


@contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """How exactly float32 matrices are multiplied on a GPU meanwhile, by recurrent layers and convolutions of cuDNN too; a CPU knows only fp32.

    Args:
        precision: fp32, or tf32: factors rounded to 10 binary digits after the leading one, sums in float32.
    """
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def claim(
    device: str = "auto", environ: MutableMapping[str, str] = os.environ, folder: str | Path | None = None
) -> str | None:
    """Take a free GPU for this process, waiting if all are taken; call it before torch is imported.

    Nothing happens for device="cpu", without a GPU, under SLURM (which binds devices itself), and where
    CUDA_VISIBLE_DEVICES already names a single device.

    Args:
        device: auto, cpu or cuda.
        environ: where CUDA_VISIBLE_DEVICES is read and set.
        folder: where the lock files are; by default a folder of this user on this host.
    Returns:
        The device taken, or None.
    """
    names = gpus(environ)
    already_one = "CUDA_VISIBLE_DEVICES" in environ and len(names) <= 1  # somebody chose
    if device == "cpu" or not names or already_one or "SLURM_JOB_ID" in environ:
        return None
    name = _first_free(names, Path(folder or lock_folder()), _jobs_per_gpu(environ))
    environ["CUDA_VISIBLE_DEVICES"] = name
    return name


def _first_free(names: Sequence[str], folder: Path, per_device: int) -> str:
    told = False
    while True:
        for place in range(per_device):  # every device's first place before any second one
            for name in names:
                if _lock(folder / f"lgmamba-gpu-{name.replace('/', '_')}-{place}.lock"):
                    return name
        if not told:
            log.warning("all %d GPUs are taken by other lgmamba processes: waiting for one", len(names))
            told = True
        time.sleep(1)


def _jobs_per_gpu(environ: MutableMapping[str, str]) -> int:
    given = environ.get("LGMAMBA_JOBS_PER_GPU", "1")
    if not given.isdecimal() or int(given) < 1:
        from lgmamba.config.base import ConfigError

        raise ConfigError(f"LGMAMBA_JOBS_PER_GPU: found {given!r}, expected a whole number from 1")
    return int(given)


def lock_folder() -> Path:
    """This user's folder of locks on this host; nobody else can hold or spoil what lies there.

    Raises:
        PermissionError: somebody else made a folder of that name.
    """
    user = os.getuid()
    folder = Path(tempfile.gettempdir()) / f"lgmamba-{user}-{socket.gethostname()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != user:
        raise PermissionError(
            errno.EACCES, "belongs to another user; remove it, or set TMPDIR to a folder of yours", str(folder)
        )
    return folder


def _lock(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    _held.append(lock)
    return True

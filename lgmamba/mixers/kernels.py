"""Recurrences of `scans.py` by the Triton kernels of flash-linear-attention (fla), on a GPU: `model.scan_backend: fla`.

    ssd_scan     chunk_gla, with the decay of a head for each of its keys
    gla_scan     chunk_gla
    delta_scan   chunk_kda, with the decay of a head for each of its keys
    dplr_scan    chunk_dplr_delta_rule

Arguments, results and gradients are those of the functions of these names in `scans.py`, states before and after included. They
stand in where no hook acts: under a remedy or a probe a mixer goes its own way, one step after the other or by its own scan.
fla also has kernels for one decay a head (chunk_simple_gla, chunk_gated_delta_rule). It refuses their gradients on Hopper with
Triton 3.4 to 3.7.0, which compiles them wrongly (fla's issue 640), so that the general ones serve here.

Keys, queries and values are given as autocast has them, else in float32, whose products the kernels round as TF32: outputs
are good to a thousandth, in bfloat16 to a hundredth. Decays, strengths of writes and states are in float32. Nothing is computed in
float64, nor under `torch.vmap` or another transform. Each kernel tries its plans when it first sees a width, for a minute or more;
Triton keeps in its cache (TRITON_CACHE_DIR) what it found.

Glossary: `lgmamba.mixers`; H heads, P width of values, N of keys.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.extras import install, missing
from lgmamba.mixers import scans
from lgmamba.scan import BackendError, resolve_backend
from lgmamba.scan.transforms import is_batched, is_transformed

NAME = "fla"
"""In `model.scan_backend`, and under which the package is imported."""
TILE = 16
"""Of widths: the kernels' products are of at least so many numbers, and of even ones; what is missing is filled with zeros."""
LEAST = -2.5
"""ln a of one step that `dplr_scan` is told never to go below: chunks of 64 then stay in float32. RWKV-7's are above -0.61."""

Scan = Callable[..., tuple[Tensor, Tensor]]


def chosen(plain: Scan, backend: str) -> Scan:
    """A function of `scans.py`, or that of its name here where the backend is fla."""
    return KERNELS[plain] if backend == NAME else plain


def own(backend: str) -> str:
    """The backend of what fla has no part in: short convolutions, and the selective scan of a mixer under a hook."""
    return "auto" if backend == NAME else backend


def resolved(backend: str, device: str) -> str:
    """`lgmamba.scan.resolve_backend`, of a backend that may be fla; errors as there."""
    if backend != NAME:
        return resolve_backend(backend, device)
    if (reason := unavailable(device)) is not None:
        raise BackendError(f"backend={NAME!r} cannot run on device {device!r}: {reason}")
    return backend


@cache
def unavailable(device: str) -> str | None:
    """Why the kernels cannot run on this kind of device, or None."""
    if device != "cuda":
        return "the kernels of flash-linear-attention are for a GPU; use backend='auto' here"
    if importlib.util.find_spec(NAME) is None:
        return missing(NAME)
    if not torch.cuda.is_available():
        return "torch sees no NVIDIA GPU here"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what else is not installed: as errors they would be a reason
            for module, function in WHERE.values():
                getattr(importlib.import_module(module), function)
    except Exception as e:  # a version without a kernel, or a Triton that it does not fit
        return f"flash-linear-attention is installed and cannot be used ({type(e).__name__}: {e}); {install(NAME)}"
    return None


WHERE = {
    "gla": ("fla.ops.gla", "chunk_gla"),
    "kda": ("fla.ops.kda", "chunk_kda"),
    "dplr": ("fla.ops.generalized_delta_rule", "chunk_dplr_delta_rule"),
}
"""Short name -> module and function."""


def ssd_scan(log_a: Tensor, k: Tensor, q: Tensor, v: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """See `scans.ssd_scan`."""
    k, q = (x.expand(-1, -1, v.shape[2], -1) for x in (k, q))
    return gla_scan(_for_keys(log_a, k), k, q, v, h0)


def gla_scan(log_a: Tensor, k: Tensor, q: Tensor, v: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """See `scans.gla_scan`; here decays have no bound."""
    return _run("gla", {"q": q, "k": k, "v": v}, {"g": log_a}, h0)


def delta_scan(
    log_a: Tensor, b: Tensor, k: Tensor, q: Tensor, v: Tensor, h0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See `scans.delta_scan`."""
    return _run("kda", {"q": q, "k": k, "v": v}, {"g": _for_keys(log_a, k)}, h0, beta=b.float())


def dplr_scan(
    log_a: Tensor, remove: Tensor, erase: Tensor, k: Tensor, q: Tensor, v: Tensor, h0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See `scans.dplr_scan`; decays within `LEAST` and 0."""
    return _run("dplr", {"q": q, "k": k, "v": v, "a": -remove, "b": erase}, {"gk": log_a}, h0, lower_bound=LEAST)


KERNELS: dict[Scan, Scan] = {
    scans.ssd_scan: ssd_scan,
    scans.gla_scan: gla_scan,
    scans.delta_scan: delta_scan,
    scans.dplr_scan: dplr_scan,
}


def _run(
    name: str, narrow: dict[str, Tensor], decays: dict[str, Tensor], h0: Tensor | None, **more: Any
) -> tuple[Tensor, Tensor]:
    """A call of a kernel.

    Args:
        name: in `WHERE`.
        narrow: (B, L, H, N or P) tensors in autocast's type; q, k and v among them.
        decays: (B, L, H, N), to stay in float32.
        h0: (B, H, P, N); the kernels have it as (B, H, N, P).
        more: other arguments.
    """
    v, N = narrow["v"], narrow["k"].shape[-1]
    device, P = v.device.type, v.shape[-1]
    given = [*narrow.values(), *decays.values()]
    if v.dtype == torch.float64:
        raise ValueError(f"backend={NAME!r} does not compute in float64; use backend='auto'")
    if is_transformed(given) or any(is_batched(x) for x in given):
        raise RuntimeError(f"backend={NAME!r} does not run under a transform of torch.func; use backend='auto'")
    resolved(NAME, device)
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    with torch.autocast(device, enabled=False):
        y, last = _kernel(name)(
            **{key: _padded(x.to(dtype)) for key, x in narrow.items()},
            **{key: _padded(x.float()) for key, x in decays.items()},
            **more,
            scale=1.0,
            initial_state=None if h0 is None else _padded(_padded(h0.float()).mT),
            output_final_state=True,
        )
    return y[..., :P].float(), last.mT[..., :P, :N]


@cache
def _kernel(name: str) -> Callable[..., tuple[Tensor, Tensor]]:
    module, function = WHERE[name]
    return getattr(importlib.import_module(module), function)


def _padded(x: Tensor) -> Tensor:
    """With zeros at the end of the last axis: such keys and values are never written, and nothing of them is read."""
    short = -x.shape[-1] % TILE
    return F.pad(x, (0, short)) if short else x


def _for_keys(log_a: Tensor, k: Tensor) -> Tensor:
    """(B, L, H) for each key: (B, L, H, N)."""
    return log_a[..., None].expand(*log_a.shape, k.shape[-1])

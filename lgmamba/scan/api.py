"""The call and the choice of its backend; the numerics live in one module per backend. Glossary: `lgmamba.scan`."""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor

from lgmamba.scan import cpu_backend, cpu_numba, cuda_backend, mamba_ssm_backend, reference
from lgmamba.scan.arguments import check_arguments
from lgmamba.scan.transforms import is_transformed, refusal

log = logging.getLogger(__name__)


class BackendError(RuntimeError):
    """A backend that was asked for by name cannot run here; the message says why and what serves."""


BACKENDS = {
    "reference": reference,
    "cpu": cpu_backend,
    "cpu_numba": cpu_numba,
    "cuda": cuda_backend,
    "mamba_ssm": mamba_ssm_backend,
}
"""Backend name -> module with `scan(...)` and `unavailable(device) -> str | None`: why it cannot run there. It has called
its kernel once before it says None; an exception counts as the reason."""

AUTO_ORDER = {"cpu": ("cpu", "cpu_numba", "reference"), "cuda": ("cuda", "mamba_ssm", "reference")}
"""Device type -> backends that `auto` tries, best first."""


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    Bmat: Tensor,
    Cmat: Tensor,
    Dskip: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    h0: Tensor | None = None,
    states_every: int | None = None,
    return_last_state: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, ...]:
    """Run Mamba-1's selective state-space recurrence over a sequence.

    Args:
        x: (B, L, D) input, floating point; float16 and bfloat16 are accumulated in float32.
        dt: (B, L, D) step size; raw (before bias and softplus) if `dt_softplus`, else final and >= 0.
            dt = 0 leaves the state exactly as it was.
        A: (D, N) diagonal state matrix, < 0, float32 (float64 on the reference).
        Bmat, Cmat: (B, L, N) input and output projections, shared by all channels; or (B, L, G, N), each shared by one of
            G groups of D / G neighbouring channels: channel d uses group d // (D / G).
        Dskip: (D,) skip weight; no skip by default.
        z: (B, L, D) gate; the output is multiplied by SiLU(z).
        dt_bias: (D,) added to dt before softplus.
        dt_softplus: whether dt is raw.
        h0: (B, D, N) state before the first step; zeros by default. Gradients flow through it.
        states_every: k >= 1; also return the states after steps k, 2k, ...
        return_last_state: also return the state after step L; gradients flow through it.
        backend: "auto" (float64 and transforms that differentiate, as `torch.func.jvp` does, go to the reference), or a
            name in `available_backends`.
    Returns:
        y: (B, L, D) in x's dtype; followed, where asked for, by the last state (B, D, N) and then the states
        (B, L // k, D, N), both float32 (float64 if x is).
    Raises:
        TypeError: a required argument is None, or one is not a tensor; named.
        ValueError: a shape, dtype or backend name that does not fit, naming the argument.
        BackendError: the backend asked for cannot run here, with what to install.
        RuntimeError: nor can it under a transform of torch.
    Reference: Gu & Dao 2023 (arXiv:2312.00752), eqs. 2 and 4 and section 3; mirrors mamba_ssm `selective_scan_ref`,
        in (B, L, D) layout.
    """
    tensors = dict(x=x, dt=dt, A=A, Bmat=Bmat, Cmat=Cmat, Dskip=Dskip, z=z, dt_bias=dt_bias, h0=h0)
    check_arguments(tensors, states_every)
    if backend == "auto" and x.dtype == torch.float64:
        backend = "reference"  # the only one that computes in float64
    chosen = resolve_backend(backend, x.device.type)
    if chosen != "reference" and not torch.compiler.is_compiling() and is_transformed(tensors.values()):
        if backend != "auto":
            raise RuntimeError(refusal(backend))
        chosen = "reference"
    Bmat, Cmat = _with_groups(Bmat, Cmat)
    return BACKENDS[chosen].scan(
        x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, dt_softplus, h0, states_every, return_last_state
    )


scan_step = reference.scan_step


def available_backends(device: str = "cpu") -> dict[str, str | None]:
    """Backend name -> None where it can run on this kind of device, else the reason why it cannot."""
    return {name: unavailable(name, device) for name in BACKENDS}


def resolve_backend(backend: str, device: str) -> str:
    """The backend that a call with `backend` runs on this kind of device; errors as in `selective_scan`."""
    if backend == "auto":
        return _auto(device)
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is unknown; expected 'auto' or one of {sorted(BACKENDS)}")
    reason = unavailable(backend, device)
    if reason is not None:
        raise BackendError(f"backend={backend!r} cannot run on device {device!r}: {reason}")
    return backend


# The choice may build a kernel: torch.compile runs it and keeps the answer instead of tracing into it. This is what
# `torch.compiler.assume_constant_result` sets; calling that would import all of dynamo, which takes seconds.
resolve_backend._dynamo_marked_constant = True


@cache
def unavailable(name: str, device: str) -> str | None:
    """Why the backend cannot run there, or None; whatever goes wrong in finding out is why.

    Found out in a thread of its own: the first call may come from inside a transform, inference mode or another default
    device, which are the caller's thread's, and the small calls that prove a kernel must not see them.
    """
    gpu = torch.cuda.current_device() if device == "cuda" and torch.cuda.is_available() else None
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_found_out, name, device, gpu).result()


def _found_out(name: str, device: str, gpu: int | None) -> str | None:
    try:
        with nullcontext() if gpu is None else torch.cuda.device(gpu):
            return BACKENDS[name].unavailable(device)
    except Exception as e:  # compilers, packages and drivers fail in many ways, and the next backend may run
        return str(e) or type(e).__name__


@cache
def _auto(device: str) -> str:
    """First backend that runs on the device; every one passed over is logged once."""
    for name in AUTO_ORDER.get(device, ("reference",)):
        reason = unavailable(name, device)
        if reason is None:
            return name
        log.warning("selective_scan: backend %r passed over on %s: %s", name, device, reason)
    return "reference"


def _with_groups(Bmat: Tensor, Cmat: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (B, L, G, N), of the larger G; nothing is copied."""
    Bmat, Cmat = (v[:, :, None] if v.ndim == 3 else v for v in (Bmat, Cmat))
    G = max(Bmat.shape[2], Cmat.shape[2])
    return tuple(v if v.shape[2] == G else v.expand(-1, -1, G, -1) for v in (Bmat, Cmat))

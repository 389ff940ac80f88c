"""Argument checks and choice of backend; the numerics live in one module per backend. Glossary: `lgmamba.scan`."""

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from lgmamba.scan import cpu_backend, cpu_numba, cuda_backend, mamba_ssm_backend, reference

log = logging.getLogger(__name__)

MAX_STATE = 256
"""Largest state size N that every backend must serve."""

BACKENDS = {
    "reference": reference,
    "cpu": cpu_backend,
    "cpu_numba": cpu_numba,
    "cuda": cuda_backend,
    "mamba_ssm": mamba_ssm_backend,
}
"""Backend name -> module with `unavailable(device) -> str | None` (why it cannot run there) and `scan(...)`."""

AUTO_ORDER = {"cpu": ("cpu", "cpu_numba", "reference"), "cuda": ("cuda", "mamba_ssm", "reference")}
"""Device type -> backends that `auto` tries, best first."""


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    Bmat: Tensor,
    Cmat: Tensor,
    Dskip: Tensor,
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
        Bmat, Cmat: (B, L, N) input and output projections, shared by all channels.
        Dskip: (D,) skip weight.
        z: (B, L, D) gate; the output is multiplied by SiLU(z).
        dt_bias: (D,) added to dt before softplus.
        dt_softplus: whether dt is raw.
        h0: (B, D, N) state before the first step; zeros by default. Gradients flow through it.
        states_every: k >= 1; also return the states after steps k, 2k, ...
        return_last_state: also return the state after step L; gradients flow through it.
        backend: "auto" (float64 goes to the reference), or a name in `available_backends`.
    Returns:
        y: (B, L, D) in x's dtype; followed, where asked for, by the last state (B, D, N) and then the states
        (B, L // k, D, N), both float32 (float64 if x is).
    Raises:
        ValueError: a shape, dtype or backend name that does not fit, naming the argument.
        RuntimeError: the backend asked for cannot run here, with what to install.
    Reference: Gu & Dao 2023 (arXiv:2312.00752), eqs. 2 and 4 and section 3; mirrors mamba_ssm `selective_scan_ref`,
        in (B, L, D) layout.
    """
    _check(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, h0, states_every)
    if backend == "auto" and x.dtype == torch.float64:
        backend = "reference"  # the only one that computes in float64
    module = BACKENDS[resolve_backend(backend, x.device.type)]
    return module.scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, dt_softplus, h0, states_every, return_last_state)


scan_step = reference.scan_step


def available_backends(device: str = "cpu") -> dict[str, str | None]:
    """Backend name -> None where it can run on this kind of device, else the reason why it cannot."""
    return {name: module.unavailable(device) for name, module in BACKENDS.items()}


def resolve_backend(backend: str, device: str) -> str:
    """The backend that a call with `backend` runs on this kind of device; errors as in `selective_scan`."""
    if backend == "auto":
        return _auto(device)
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is unknown; expected 'auto' or one of {sorted(BACKENDS)}")
    reason = BACKENDS[backend].unavailable(device)
    if reason is not None:
        raise RuntimeError(f"backend={backend!r} cannot run on device {device!r}: {reason}")
    return backend


# The choice may build a kernel: torch.compile runs it and keeps the answer instead of tracing into it. This is what
# `torch.compiler.assume_constant_result` sets; calling that would import all of dynamo, which takes seconds.
resolve_backend._dynamo_marked_constant = True


@cache
def _auto(device: str) -> str:
    """First backend that runs on the device; every one passed over is logged once."""
    for name in AUTO_ORDER.get(device, ("reference",)):
        reason = BACKENDS[name].unavailable(device)
        if reason is None:
            return name
        log.warning("selective_scan: backend %r passed over on %s: %s", name, device, reason)
    return "reference"


def _check(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, h0, states_every) -> None:
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(f"x must be (B, L, D) with no empty axis; got {tuple(x.shape)}")
    if A.ndim != 2:
        raise ValueError(f"A must be (D, N); got {tuple(A.shape)}")
    B, L, D = x.shape
    N = A.shape[1]
    expected: dict[str, tuple[Callable | Tensor | None, tuple[int, ...]]] = {
        "dt": (dt, (B, L, D)),
        "A": (A, (D, N)),
        "Bmat": (Bmat, (B, L, N)),
        "Cmat": (Cmat, (B, L, N)),
        "Dskip": (Dskip, (D,)),
        "z": (z, (B, L, D)),
        "dt_bias": (dt_bias, (D,)),
        "h0": (h0, (B, D, N)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape} to fit x {(B, L, D)} and A {(D, N)}; got {tuple(tensor.shape)}"
            )
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device}, x on {x.device}; all arguments must share one device")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be floating point; got {tensor.dtype}")
    if not 1 <= N <= MAX_STATE:
        raise ValueError(f"the state size N must be in 1..{MAX_STATE}; got {N}")
    if states_every is not None and states_every < 1:
        raise ValueError(f"states_every must be >= 1; got {states_every}")

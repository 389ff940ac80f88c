"""The scan on a CPU through numba, for machines without a C++ compiler. Glossary: `lgmamba.scan`.

Softplus, skip and gate are torch's; the recurrence and its gradients are compiled here. As in `_cpu_kernel.cpp`
channels are the innermost, vectorised axis and the backward pass recomputes the states of `CHUNK` steps from the state
at their start, so no (B, L, D, N) array exists. A thread takes whole samples and each sample's share of a sum is kept
apart until the end: the number of threads does not change the bits of the recurrence.
"""

import importlib.util
import math
import threading
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.extras import missing
from lgmamba.scan.cpu_operator import register_operator

CHUNK = 16
"""Steps between the states kept for the backward pass."""

_one_at_a_time = threading.Lock()  # numba's smallest thread pool aborts the process when two threads enter it


def unavailable(device: str) -> str | None:
    """Why it cannot run on this kind of device, or None. Compiles and proves the kernels at the first call."""
    if device != "cpu":
        return f"it computes on a CPU, not on {device}"
    if importlib.util.find_spec("numba") is None:
        return missing("numba")
    _prove()
    return None


def _prove() -> None:
    """Call the kernels once, with arguments of the types that all calls have.

    Raises:
        Exception: numba's, or a RuntimeError where the numbers are wrong.
    """
    dt, A = torch.ones(2, 3, 5), torch.full((5, 4), -math.log(2.0))
    projection, state = torch.ones(2, 3, 1, 4), torch.ones(2, 5, 4)
    y, _, _, starts = _forward(dt, dt, A, projection, projection, 0 * state, 0)
    zeros = (0 * state.mT, 0 * state.mT[:, None][:, :0])
    _, dx, *_ = _backward(dt, dt, A, projection, projection, starts, dt, *zeros, 0)
    halved = 4 * torch.tensor([1.0, 1.5, 1.75])  # the sum of four states that are halved in each step and gain 1
    if not (torch.allclose(y[0, :, 0], halved) and torch.allclose(dx[0, :, 0], halved.flip(0))):
        raise RuntimeError("numba compiled the kernels, and they compute wrong numbers here")


@cache
def _kernels():
    """Imported at first use: numba takes a second to import."""
    from lgmamba.scan import cpu_numba_kernels

    return cpu_numba_kernels


def scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, dt_softplus, h0, states_every, return_last_state):
    """`lgmamba.scan.selective_scan` through numba.

    Raises:
        ValueError: x is float64.
    """
    if x.dtype == torch.float64:
        raise ValueError("backend='cpu_numba' computes in float32, x is float64; use backend='reference' (or 'auto')")
    out_dtype = x.dtype
    x, dt, A, Bmat, Cmat = (v.float() for v in (x, dt, A, Bmat, Cmat))
    if dt_bias is not None:
        dt = dt + dt_bias.float()
    if dt_softplus:
        dt = F.softplus(dt)
    h0 = x.new_zeros(x.shape[0], *A.shape) if h0 is None else h0.float()
    y, last, states, _ = torch.ops.lgmamba.scan_numba(dt, dt * x, A, Bmat, Cmat, h0, states_every or 0)
    if Dskip is not None:
        y = torch.addcmul(y, Dskip.float(), x)
    if z is not None:
        y = y * F.silu(z.float())
    result = [y.to(out_dtype)]
    if return_last_state:
        result.append(last.transpose(1, 2))  # (B, D, N)
    if states_every is not None:
        result.append(states.transpose(2, 3))  # (B, L // k, D, N)
    return result[0] if len(result) == 1 else tuple(result)


def _forward_outputs(dt: Tensor, A: Tensor, every: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (B, L, D), N = dt.shape, A.shape[1]
    starts = (B, -(-L // CHUNK) * N * D)  # one axis: torch.export takes a length of 1 for a constant
    y, last, states = (B, L, D), (B, N, D), (B, L // every if every else 0, N, D)
    return dt.new_empty(y), dt.new_empty(last), dt.new_empty(states), dt.new_empty(starts)


def _forward(
    dt: Tensor, dtx: Tensor, A: Tensor, Bmat: Tensor, Cmat: Tensor, h0: Tensor, every: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output without skip and gate, the last state (B, N, D), the reported states and each chunk's first."""
    y, h, states, starts = _forward_outputs(dt, A, every)
    h.copy_(h0.transpose(1, 2))  # becomes the last state
    _call("forward", dt, dtx, A.t(), Bmat, Cmat, h, every, CHUNK, y, states, _by_chunk(starts, h))
    return y, h, states, starts


def _by_chunk(starts: Tensor, state: Tensor) -> Tensor:
    return starts.view(len(starts), -1, *state.shape[1:])  # (B, chunks, N, D)


def _fake_forward(dt, dtx, A, Bmat, Cmat, h0, every):
    return _forward_outputs(dt, A, every)


def _backward_outputs(dt: Tensor, Bmat: Tensor) -> tuple[Tensor, ...]:
    (B, L, D), (G, N) = dt.shape, Bmat.shape[2:]
    BLD, BLGN = (B, L, D), (B, L, G, N)
    return tuple(dt.new_empty(shape) for shape in (BLD, BLD, (D, N), BLGN, BLGN, (B, D, N)))


def _backward(
    dt: Tensor,
    dtx: Tensor,
    A: Tensor,
    Bmat: Tensor,
    Cmat: Tensor,
    starts: Tensor,
    dy: Tensor,
    dlast: Tensor,
    dstates: Tensor,
    every: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the six tensors that `scan_numba` takes."""
    ddt, ddtx, dA, dBmat, dCmat, dh0 = _backward_outputs(dt, Bmat)
    g = dlast.contiguous().clone()  # becomes the gradient of h0
    dA_each = dt.new_empty(len(dt), *A.t().shape)  # one per sample
    args = (
        dt,
        dtx,
        A.t(),
        Bmat,
        Cmat,
        _by_chunk(starts, g),
        dy,
        dstates,
        g,
        every,
        CHUNK,
        ddt,
        ddtx,
        dBmat,
        dCmat,
        dA_each,
    )
    _call("backward", *args)
    dA.copy_(dA_each.sum(0).t())
    dh0.copy_(g.transpose(1, 2))
    return ddt, ddtx, dA, dBmat, dCmat, dh0


def _fake_backward(dt, dtx, A, Bmat, Cmat, starts, dy, dlast, dstates, every):
    return _backward_outputs(dt, Bmat)


def _save(ctx, inputs, output) -> None:
    *tensors, ctx.every = inputs
    ctx.save_for_backward(*tensors[:5], output[3])


def _differentiate(ctx, dy, dlast, dstates, _):
    grads = torch.ops.lgmamba.scan_numba_backward(*ctx.saved_tensors, dy, dlast, dstates, ctx.every)
    return *grads, None


def _no_double_backward(ctx, *_):
    raise RuntimeError("selective_scan with backend='cpu_numba' has no second derivative; use backend='reference'")


register_operator("lgmamba::scan_numba", "cpu_numba", _forward, _fake_forward, _differentiate, _save)
register_operator("lgmamba::scan_numba_backward", "cpu_numba", _backward, _fake_backward, _no_double_backward, None)


def _call(name: str, *args) -> None:
    kernels = _kernels()
    arrays = [v.detach().contiguous().numpy() if isinstance(v, Tensor) else v for v in args]
    with _one_at_a_time:
        kernels.set_num_threads(min(torch.get_num_threads(), kernels.MAX_THREADS))
        getattr(kernels, name)(*arrays)

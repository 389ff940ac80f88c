"""The compiled loops of `cpu_numba`; imported only where numba is there. Glossary: `lgmamba.scan`.

All arrays are C-contiguous float32; A is (N, D) here and states are (.., N, D), so that channels are innermost. Bmat and
Cmat are (B, L, G, N), and group g holds the `wide` = D / G channels from g * wide on.
"""

import logging

import numpy as np
from llvmlite import ir
from numba import config, njit, prange, set_num_threads, types
from numba.extending import intrinsic

log = logging.getLogger(__name__)

MAX_THREADS = config.NUMBA_NUM_THREADS

__all__ = ["MAX_THREADS", "backward", "forward", "set_num_threads"]

_FLAGS = {"reassoc", "contract", "nsz"}  # sums over channels may be vectorised; NaN and inf stay what they are
_f = np.float32


@intrinsic
def _float_of_bits(typingctx, bits):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@njit(inline="always", fastmath=_FLAGS)
def _exp(v):
    """The exponential as in `_cpu_simd.h`: exactly 1 at 0, saturates where |v| > 126 ln 2, relative error < 2e-7."""
    p = min(max(v * _f(1.44269504), _f(-126.0)), _f(126.0))
    n = np.floor(p + _f(0.5))
    r = p - n
    q = _f(0.0013265125) * r + _f(0.0096715)
    q = q * r + _f(0.05550732)
    q = q * r + _f(0.24022242)
    q = q * r + _f(0.693147)
    q = q * r + _f(1.0)
    return q * _float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))


def _compiled(function):
    """Compiled at the first call, and kept on disk where numba finds a folder for it."""
    compiled = njit(parallel=True, fastmath=_FLAGS)(function)
    try:
        compiled.enable_caching()
    except Exception as e:  # which one depends on what of its folders is missing
        log.warning("numba compiles %s in every process (%s); set NUMBA_CACHE_DIR", function.__name__, e)
    return compiled


@_compiled
def forward(dt, dtx, A, Bmat, Cmat, h, every, chunk, y, states, starts):
    """Writes y, the reported states, the state at each chunk's start; `h` (B, N, D) goes from first to last state."""
    B, L, D = dt.shape
    G, N = Bmat.shape[2:]
    wide = D // G
    for b in prange(B):
        for t in range(L):
            if t % chunk == 0:
                starts[b, t // chunk] = h[b]
            for d in range(D):
                y[b, t, d] = _f(0.0)
            for g in range(G):
                for n in range(N):
                    Bt, Ct = Bmat[b, t, g, n], Cmat[b, t, g, n]
                    for d in range(g * wide, (g + 1) * wide):
                        h[b, n, d] = _exp(dt[b, t, d] * A[n, d]) * h[b, n, d] + dtx[b, t, d] * Bt
                        y[b, t, d] += h[b, n, d] * Ct
            if every > 0 and (t + 1) % every == 0:
                states[b, (t + 1) // every - 1] = h[b]


@_compiled
def backward(dt, dtx, A, Bmat, Cmat, starts, dy, dstates, dh, every, chunk, ddt, ddtx, dBmat, dCmat, dA):
    """Writes the gradients, that of A once per sample; `dh` (B, N, D) goes from the last state's gradient to h0's."""
    B, L, D = dt.shape
    G, N = Bmat.shape[2:]
    wide = D // G
    for b in prange(B):
        dA[b] = _f(0.0)
        hs = np.empty((chunk + 1, N, D), np.float32)
        decay = np.empty((chunk, N, D), np.float32)
        for c in range((L - 1) // chunk, -1, -1):
            t0 = c * chunk
            hs[0] = starts[b, c]
            for t in range(t0, min(t0 + chunk, L)):
                i = t - t0
                for g in range(G):
                    for n in range(N):
                        Bt = Bmat[b, t, g, n]
                        for d in range(g * wide, (g + 1) * wide):
                            e = _exp(dt[b, t, d] * A[n, d])
                            decay[i, n, d] = e
                            hs[i + 1, n, d] = e * hs[i, n, d] + dtx[b, t, d] * Bt
            for t in range(min(t0 + chunk, L) - 1, t0 - 1, -1):
                i = t - t0
                if every > 0 and (t + 1) % every == 0:
                    dh[b] += dstates[b, (t + 1) // every - 1]
                for d in range(D):
                    ddt[b, t, d] = _f(0.0)
                    ddtx[b, t, d] = _f(0.0)
                for g in range(G):
                    for n in range(N):
                        Bt, Ct = Bmat[b, t, g, n], Cmat[b, t, g, n]
                        dB, dC = _f(0.0), _f(0.0)
                        for d in range(g * wide, (g + 1) * wide):
                            v = dh[b, n, d] + Ct * dy[b, t, d]
                            dC += hs[i + 1, n, d] * dy[b, t, d]
                            dB += v * dtx[b, t, d]
                            ddtx[b, t, d] += v * Bt
                            v = v * decay[i, n, d]
                            to_decay = v * hs[i, n, d]  # d loss / d (dt A)
                            ddt[b, t, d] += to_decay * A[n, d]
                            dA[b, n, d] += to_decay * dt[b, t, d]
                            dh[b, n, d] = v
                        dBmat[b, t, g, n] = dB
                        dCmat[b, t, g, n] = dC

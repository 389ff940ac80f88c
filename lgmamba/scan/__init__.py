"""The only door to Mamba's recurrence: `selective_scan`, and `scan_step` for one step.

Glossary (code symbol: meaning, shape; symbol in Gu & Dao 2023, arXiv:2312.00752)

    B, L, D, N   batch, steps, channels (inner width), state size
    G            groups of D / G neighbouring channels that share B and C; channel d is in group d // (D / G)
    x            scan input, after the short convolution          (B, L, D)   x
    dt           step size, dimensionless, > 0 once softplus ran  (B, L, D)   Delta
    A            state matrix, diagonal, < 0                      (D, N)      A
    Bmat, Cmat   input and output projections, per step           (B, L, N)   B, C
                 or by group; backends always get (B, L, G, N)    (B, L, G, N)
    Dskip        skip weight, or None                             (D,)        D
    z            gate branch, the output is multiplied by SiLU(z) (B, L, D)
    h            state                                            (B, D, N)   h
    y            output                                           (B, L, D)   y

The recurrence, with the Euler form of B as in the official code:

    dt  = softplus(dt + dt_bias)                     (only with dt_softplus)
    h_t = exp(dt_t * A) * h_{t-1} + dt_t * Bmat_t * x_t
    y_t = (sum_n Cmat_t[n] h_t[:, n] + Dskip * x_t) * SiLU(z_t)
"""

from lgmamba.scan.api import BackendError, available_backends, resolve_backend, scan_step, selective_scan

__all__ = ["BackendError", "available_backends", "resolve_backend", "scan_step", "selective_scan"]

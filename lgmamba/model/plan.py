"""The one hook through which a remedy or a probe sees, and may change, what enters the recurrence.

A plan is a function ScanCall -> ScanCall, called by every Mamba layer for every piece of a sequence, single steps
included, so that a whole pass, a pass in pieces and step-by-step reading are changed alike. `dataclasses.replace`
makes the changed call. The neutral plan is the identity, and equals running without a plan.

    step sizes          replace dt; dt = 0 is an exact no-op on the state, so it masks a step
    spectrum of A       replace A (and nothing else: A is -exp(A_log) here)
    per-step gains      multiply Bmat (what is written) or Cmat (what is read) by (L, 1) or (B, L, 1) factors
    dropped tokens      set keep; all later layers then see a shorter sequence
    states              replace h0, or set post_state, which is applied to the state at the end of the piece

Glossary: `lgmamba.model`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ScanCall:
    """What one layer is about to scan for one piece of a sequence.

    Attributes:
        layer: number of the layer, from 0.
        t0: steps of the sequence read before this piece; piece step i is step t0 + i + 1.
        told: (B,) int64 length told to the model, or None.
        x, z: (B, L, D) scan input after convolution and SiLU, and gate.
        dt: (B, L, D) step size after bias and softplus, > 0; like A and h0 float32 (float64 in a float64 model).
        A: (D, N) state matrix, < 0.
        Bmat, Cmat: (B, L, N).
        h0: (B, D, N) state before the piece, or None for zeros.
        keep: (B, K) int64 ascending positions inside the piece to go on with, or None for all.
        post_state: function on the (B, D, N) state at the end of the piece, or None.
    """

    layer: int
    t0: int
    told: Tensor | None
    x: Tensor
    z: Tensor
    dt: Tensor
    A: Tensor
    Bmat: Tensor
    Cmat: Tensor
    h0: Tensor | None
    keep: Tensor | None = None
    post_state: Callable[[Tensor], Tensor] | None = None


Plan = Callable[[ScanCall], ScanCall]


def gather_steps(v: Tensor, keep: Tensor) -> Tensor:
    """Rows `keep` (B, K) of a (B, L, ...) tensor, per sample: (B, K, ...)."""
    index = keep.reshape(*keep.shape, *([1] * (v.ndim - 2))).expand(-1, -1, *v.shape[2:])
    return v.gather(1, index)

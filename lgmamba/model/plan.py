"""The one hook through which a remedy or a probe sees, and may change, what enters the recurrence.

A plan is a function ScanCall -> ScanCall, called by every Mamba layer for every piece of a sequence, single steps
included, so that a whole pass, a pass in pieces and step-by-step reading are changed alike. `dataclasses.replace`
makes the changed call. The neutral plan is the identity, and equals running without a plan.

    step sizes          replace dt; dt = 0 is an exact no-op on the state, so it masks a step
    spectrum of A       replace A (and nothing else: A is -exp(A_log) here)
    per-step gains      multiply Bmat (what is written) or Cmat (what is read) by (L, 1) or (B, L, 1) factors
    dropped tokens      set keep; all later layers then see a shorter sequence
    states              replace h0, or set post_state, which is applied to the state at the end of the piece
    another recurrence  set scan, which is called in place of the ordinary scan and may carry tensors to the next piece

Glossary: `lgmamba.model`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Memory = tuple[Tensor, ...]
"""What a layer's `scan` carries from piece to piece besides the state h."""


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
        scan: takes the place of the ordinary scan, or None; see `Scan`.
        memory: what `scan` left at the end of the piece before, or None.
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
    scan: Scan | None = None
    memory: Memory | None = None


Plan = Callable[[ScanCall], ScanCall]
Ordinary = Callable[[ScanCall], tuple[Tensor, Tensor]]
"""The layer's own recurrence on x, z, dt, A, Bmat, Cmat and h0 of a call: y (B, L, D) after skip and gate, and h (B, D, N)."""
Scan = Callable[[ScanCall, Ordinary], tuple[Tensor, Tensor, Memory | None]]
"""y, h and memory of a call, whose steps to be dropped are gone. It may ask for the ordinary scan of any call, any number of
times; post_state is applied to the h that it returns."""
PER_STEP = ("x", "z", "dt", "Bmat", "Cmat")
"""Names of what a call holds for each step, (B, L, ...)."""


def gather_steps(v: Tensor, keep: Tensor) -> Tensor:
    """Rows `keep` (B, K) of a (B, L, ...) tensor, per sample: (B, K, ...)."""
    index = keep.reshape(*keep.shape, *([1] * (v.ndim - 2))).expand(-1, -1, *v.shape[2:])
    return v.gather(1, index)

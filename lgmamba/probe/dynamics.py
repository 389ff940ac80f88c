"""How long each mode remembers, and how much its state should grow beyond the training length. Glossary: `lgmamba.probe`.

Patches in random order are, given the image, close to independent. Then for each (layer, channel d, mode n)

    E[h_t] = E[dt B x] F(t),   F(t) = (1 - rho^t) / (1 - rho),   rho = E[exp(dt A)],   tau = -1 / ln rho

A mode with tau well below L0 converged in training and looks the same on longer sequences; a mode with tau above L0 never did, and
its state is inflated by F(T) / F(L0), at most T / L0. D channels, N modes; all sums in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call
from lgmamba.mixers.mamba.mixer import MambaCall
from lgmamba.remedies.closed_form import series
from lgmamba.scan import selective_scan

GROUPS = ("short", "medium", "long")
"""Modes by their memory: tau below L0 / 2, which grow by a sixth at most beyond L0; up to 2 L0; and above, which grow to 2.5 times
and more, if they are given the time."""


class DecayRecorder:
    """A hook that changes nothing and averages every layer's decays exp(dt A) and step sizes over what is read.

    Args:
        samples: sequences of a batch that count, the first ones; None for all.
    """

    def __init__(self, samples: int | None = None) -> None:
        self.samples = samples
        self._sums: dict[int, Tensor] = {}
        self._steps: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    def __call__(self, call: Call) -> Call:
        A, dt = -call.rates().double(), call.score()[: self.samples].detach().double().flatten(0, 1)  # (B L, D)
        decays = torch.stack([torch.exp(dt * A[:, n]).sum(0) for n in range(A.shape[1])], dim=1)  # of all modes: large
        self._sums[call.layer] = self._sums.get(call.layer, 0) + decays
        self._steps[call.layer] = self._steps.get(call.layer, 0) + dt.sum(0)
        self._counts[call.layer] = self._counts.get(call.layer, 0) + len(dt)
        return call

    def rho(self) -> list[Tensor]:
        """Mean decay of each layer, (D, N) in (0, 1)."""
        return [self._sums[layer] / self._counts[layer] for layer in sorted(self._sums)]

    def step_size(self) -> list[Tensor]:
        """Mean step size of each layer, (D,)."""
        return [self._steps[layer] / self._counts[layer] for layer in sorted(self._steps)]


@dataclass(frozen=True)
class ModeMemory:
    """Memory of the modes of one layer.

    Attributes:
        rho: (D, N) mean decay of one step.
        tau: (D, N) steps after which a write has fallen to 1 / e.
    """

    rho: Tensor
    tau: Tensor

    @classmethod
    def of(cls, rho: Tensor) -> "ModeMemory":
        return cls(rho, 1.0 / rho.log().abs())  # infinite where nothing is forgotten

    def inflation(self, L0: int, T: int) -> Tensor:
        """Predicted growth of the mean state from L0 to T steps, F(T) / F(L0): (D, N), from 1 to T / L0."""
        return self.total(T) / self.total(L0)

    def total(self, t: int) -> Tensor:
        """F(t), the mean state after t steps in units of the mean write: (D, N)."""
        return series(self.rho, t)

    def group(self, L0: int) -> Tensor:
        """Position in `GROUPS` of each mode: (D, N) int64."""
        bounds = torch.tensor([L0 / 2, 2 * L0], dtype=self.tau.dtype, device=self.tau.device)
        return torch.bucketize(self.tau, bounds)


def mode_memory(recorder: DecayRecorder) -> list[ModeMemory]:
    """One entry for each layer, from a recorded pass over sequences of the training length."""
    return [ModeMemory.of(rho) for rho in recorder.rho()]


class DistanceRecorder:
    """A hook that changes nothing and keeps, for every single mode, how far back what its state holds lies on average.

    For one mode the read-out cancels from the hidden attention: the weight of step j at step i is
    w_ij = exp(A (S_i - S_j)) dt_j |B_j|. Their sum W and V = sum_j (i - j) w_ij are carried from piece to piece by the scan itself,
    with inputs 1 and (steps from j to the end of the piece); all terms are >= 0, so nothing cancels. Linear in time.
    """

    def __init__(self) -> None:
        self._sums: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, call: MambaCall) -> MambaCall:
        B, L, D = call.dt.shape
        size, dt = call.Bmat.to(call.dt.dtype).abs(), call.dt
        none = torch.zeros_like(call.A)
        W, V = self._sums.get(call.layer, (none.expand(B, -1, -1), none.expand(B, -1, -1)))

        def end(x: Tensor, h0: Tensor) -> Tensor:
            x = x.to(dt)[:, None].expand(B, L, D)
            return selective_scan(x, dt, call.A, size, size, none[:, 0], h0=h0, return_last_state=True)[1]

        to_end = torch.arange(L - 1, -1, -1, device=dt.device)
        self._sums[call.layer] = end(torch.ones_like(to_end), W), end(to_end, V + L * W)
        return call

    def distances(self) -> list[Tensor]:
        """Mean distance at the step last read, of each layer: (B, D, N), from 0 to t - 1."""
        sums = (self._sums[layer] for layer in sorted(self._sums))
        return [V / W.clamp(min=torch.finfo(W.dtype).tiny) for W, V in sums]


class WriteRecorder:
    """A hook that changes nothing and adds up what is written on average, with constant decays: sum_t rho^(T - t) E[dt_t B_t x_t].

    It is what E[h_T] would be if a step's decay were independent of the state before it, whatever becomes of the writes.

    Args:
        memory: of each layer.
    """

    def __init__(self, memory: Sequence[ModeMemory]) -> None:
        self.memory = memory
        self._sums: dict[int, Tensor] = {}

    def __call__(self, call: MambaCall) -> MambaCall:
        dt = call.dt.detach().double()
        B, L, _ = dt.shape
        rho = self.memory[call.layer].rho
        writes = torch.einsum("bld,bln->ldn", dt * call.x, call.Bmat.double()) / B
        left = rho ** torch.arange(L - 1, -1, -1, device=dt.device)[:, None, None]
        before = self._sums.get(call.layer, torch.zeros_like(rho))
        self._sums[call.layer] = rho**L * before + (left * writes).sum(0)
        return call

    def totals(self) -> list[Tensor]:
        """The sum at the step last read, of each layer: (D, N)."""
        return [self._sums[layer] for layer in sorted(self._sums)]

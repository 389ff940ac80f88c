"""How long each mode remembers, and how much its state should grow beyond the training length. Glossary: `lgmamba.probe`.

Patches in random order are, given the image, close to independent. Then for each (layer, channel d, mode n)

    E[h_t] = E[dt B x] F(t),   F(t) = (1 - rho^t) / (1 - rho),   rho = E[exp(dt A)],   tau = -1 / ln rho

A mode with tau well below L0 converged in training and looks the same on longer sequences; a mode with tau above L0 never did, and
its state is inflated by F(T) / F(L0), at most T / L0. D channels, N modes; all sums in float64.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.model.plan import ScanCall


class DecayRecorder:
    """A plan that changes nothing and averages every layer's decays exp(dt A) over what is read."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    def __call__(self, call: ScanCall) -> ScanCall:
        A = call.A.double()
        total = self._sums.setdefault(call.layer, torch.zeros_like(A))
        for dt in call.dt.detach().double().unbind(1):  # step by step: (B, L, D, N) would be large
            total += torch.exp(dt[:, :, None] * A).sum(0)
        self._counts[call.layer] = self._counts.get(call.layer, 0) + call.dt.shape[0] * call.dt.shape[1]
        return call

    def rho(self) -> list[Tensor]:
        """Mean decay of each layer, (D, N) in (0, 1)."""
        return [self._sums[layer] / self._counts[layer] for layer in sorted(self._sums)]


@dataclass(frozen=True)
class ModeMemory:
    """Memory of the modes of one layer.

    Attributes:
        rho: (D, N) mean decay of one step.
        tau: (D, N) steps after which a write has fallen to 1 / e.
    """

    rho: Tensor
    tau: Tensor

    def inflation(self, L0: int, T: int) -> Tensor:
        """Predicted growth of the mean state from L0 to T steps, F(T) / F(L0): (D, N), from 1 to T / L0."""
        return _series(self.rho, T) / _series(self.rho, L0)


def mode_memory(recorder: DecayRecorder) -> list[ModeMemory]:
    """One entry for each layer, from a recorded pass over sequences of the training length."""
    return [ModeMemory(rho, -1.0 / rho.log()) for rho in recorder.rho()]


def _series(rho: Tensor, t: int) -> Tensor:
    """1 + rho + ... + rho^(t - 1), also where rho is close to 1."""
    log = rho.log()
    return torch.where(rho < 1, torch.expm1(t * log) / torch.expm1(log), torch.full_like(rho, float(t)))

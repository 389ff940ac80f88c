"""Factors that depend on the length read: given at some lengths, in between ln s is linear in ln T.

Glossary: `lgmamba.remedies`; M factors, K lengths at which they are given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Scope = Literal["global", "layer", "channel", "mode", "channel_mode"]


@dataclass(frozen=True)
class LengthFactors:
    """Factors s(T): 1 up to L0, those given at some longer lengths, and those of the longest beyond it.

    Attributes:
        L0: up to it all factors are 1.
        lengths: K lengths above L0, ascending.
        logs: (K, M) ln of the factors given; gradients flow to them.
    """

    L0: int
    lengths: Sequence[int]
    logs: Tensor

    def at(self, T: float) -> Tensor:
        """The factors for length T, (M,)."""
        return self.at_each(torch.tensor([float(T)], dtype=torch.float64))[0]

    def at_each(self, T: Tensor) -> Tensor:
        """The factors for lengths (n,): (n, M), on their device."""
        logs = torch.cat([torch.zeros_like(self.logs[:1]), self.logs]).to(T.device)
        known = torch.tensor([self.L0, *self.lengths], dtype=torch.float64, device=T.device).log()
        where = T.double().log().clamp(known[0], known[-1])
        upper = torch.searchsorted(known, where).clamp(min=1)
        share = (where - known[upper - 1]) / (known[upper] - known[upper - 1])
        return torch.lerp(logs[upper - 1], logs[upper], share[:, None].to(logs.dtype)).exp()


def length_factors(L0: int, values: dict[str, Any]) -> LengthFactors:
    """From the JSON values of a calibration: under "T", length -> {"factors": M numbers above 0}."""
    given = sorted((int(T), found["factors"]) for T, found in values["T"].items())
    logs = torch.tensor([factors for _, factors in given], dtype=torch.float64).log()
    return LengthFactors(L0, [T for T, _ in given], logs)


def n_factors(scope: Scope, n_layer: int, channels: int, modes: int) -> int:
    """M of a scope."""
    of_layer = {"layer": 1, "channel": channels, "mode": modes, "channel_mode": channels * modes}
    return 1 if scope == "global" else n_layer * of_layer[scope]


def by_layer(factors: Tensor, scope: Scope, n_layer: int, modes: int) -> list[Tensor]:
    """Factors (..., M) as one entry for each layer: (...), (..., D) by channel, (..., N) by mode, or (..., D, N)."""
    if scope == "global":
        return [factors[..., 0]] * n_layer
    of_layer = {"layer": (), "channel": (-1,), "mode": (-1,), "channel_mode": (-1, modes)}[scope]
    return list(factors.unflatten(-1, (n_layer, *of_layer)).unbind(factors.ndim - 1))

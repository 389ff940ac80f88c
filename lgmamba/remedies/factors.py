"""Factors that depend on the length read: calibrated at some lengths, in between ln s is linear in ln T.

Glossary: `lgmamba.remedies`; M factors.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Scope = Literal["global", "layer", "mode"]


@dataclass(frozen=True)
class LengthFactors:
    """Factors s(T): 1 up to L0, those given at some longer lengths, and those of the longest beyond it.

    Attributes:
        L0: where all factors are 1.
        given: T > L0 -> M factors, each above 0.
    """

    L0: int
    given: Mapping[int, Sequence[float]]

    def at(self, T: float) -> list[float]:
        """The M factors for length T."""
        lengths = sorted(self.given)
        if T <= self.L0:
            return [1.0] * len(self.given[lengths[0]])
        if T >= lengths[-1]:
            return list(self.given[lengths[-1]])
        upper = next(n for n in lengths if n >= T)
        lower = max([n for n in lengths if n < T], default=self.L0)
        share = math.log(T / lower) / math.log(upper / lower)
        start = self.given.get(lower, [1.0] * len(self.given[upper]))
        return [a ** (1 - share) * b**share for a, b in zip(start, self.given[upper], strict=True)]


def n_factors(scope: Scope, n_layer: int, d_state: int) -> int:
    """M of a scope."""
    return {"global": 1, "layer": n_layer, "mode": n_layer * d_state}[scope]


def by_layer(factors: Tensor, scope: Scope, n_layer: int) -> list[Tensor]:
    """M factors as one entry for each layer: a number (), or (N,) with one for each mode."""
    if scope == "global":
        return [factors[0]] * n_layer
    return list(factors if scope == "layer" else factors.reshape(n_layer, -1))


def spread(factors: Sequence[float], scope: Scope, n_layer: int) -> list[Tensor]:
    """`by_layer` of plain numbers, in float64."""
    return by_layer(torch.tensor(factors, dtype=torch.float64), scope, n_layer)

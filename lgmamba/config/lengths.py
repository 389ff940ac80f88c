"""Distributions of training lengths, as written in params.yaml; each knows its exact probability mass function.

Lengths are counted in patches. `pmf()` returns [p_0, p_1, ..., p_max] with p_0 = 0, so that index = length.
"""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Strict

Length = Annotated[int, Field(ge=1, le=100_000, description="patches")]
Weight = Annotated[float, Field(gt=0, le=1e100)]


class _Range(Strict):
    low: Length
    high: Length

    @model_validator(mode="after")
    def _ordered(self):
        if self.low > self.high:
            raise ValueError(f"low <= high; got low={self.low}, high={self.high}")
        return self

    @property
    def max(self) -> int:
        return self.high


class Fixed(Strict):
    """Always the same length: a specialist."""

    kind: Literal["fixed"]
    value: Length

    @property
    def max(self) -> int:
        return self.value

    def pmf(self) -> list[float]:
        return [0.0] * self.value + [1.0]


class Uniform(_Range):
    """Every length from low to high equally often."""

    kind: Literal["uniform"]

    def pmf(self) -> list[float]:
        return [0.0] * self.low + [1.0 / (self.high - self.low + 1)] * (self.high - self.low + 1)


class LogUniform(_Range):
    """Floor of a variable whose logarithm is uniform on [log low, log(high + 1)): p(T) = log((T+1)/T) / log((high+1)/low)."""

    kind: Literal["log_uniform"]

    def pmf(self) -> list[float]:
        total = math.log((self.high + 1) / self.low)
        return [0.0] * self.low + [math.log((T + 1) / T) / total for T in range(self.low, self.high + 1)]


class Choice(Strict):
    """A few lengths with weights; the weights are normalised to sum 1."""

    kind: Literal["choice"]
    weights: dict[Length, Annotated[Weight, Field(strict=True)]] = Field(min_length=1)  # true is no 1

    @property
    def max(self) -> int:
        return max(self.weights)

    def pmf(self) -> list[float]:
        total = sum(self.weights.values())
        return [self.weights.get(T, 0.0) / total for T in range(self.max + 1)]


class Geometric(Strict):
    """p(T) proportional to (1 - q)^(T - 1) on 1..max, with q such that the mean (after truncation) is `mean`."""

    kind: Literal["geometric"]
    mean: float = Field(ge=1.0, description="mean length after truncation, patches")
    max: Length

    @model_validator(mode="after")
    def _reachable(self):
        if self.mean > (self.max + 1) / 2:
            raise ValueError(
                f"mean <= (max + 1) / 2 = {(self.max + 1) / 2} (beyond it the law would not decay); got {self.mean}"
            )
        return self

    def pmf(self) -> list[float]:
        low, high = 0.0, 1.0  # ratio r = 1 - q; the mean grows with r, from 1 to (max + 1) / 2
        for _ in range(200):
            r = (low + high) / 2
            weights = [r ** (T - 1) for T in range(1, self.max + 1)]
            mean = sum(T * w for T, w in enumerate(weights, start=1)) / sum(weights)
            if r in (low, high):  # as near as numbers come: no further round would change anything
                break
            low, high = (r, high) if mean < self.mean else (low, r)
        total = sum(weights)
        return [0.0] + [w / total for w in weights]


Simple = Annotated[Fixed | Uniform | LogUniform | Choice | Geometric, Field(discriminator="kind")]


class Part(Strict):
    """One part of a mixture."""

    weight: Weight = Field(description="the weights of a mixture are normalised to sum 1")
    lengths: Simple


class Mixture(Strict):
    """Several distributions, each drawn from with its weight: half of the sequences at L0, half of any length, say."""

    kind: Literal["mixture"]
    parts: list[Part] = Field(min_length=1)

    @property
    def max(self) -> int:
        return max(part.lengths.max for part in self.parts)

    def pmf(self) -> list[float]:
        total = sum(part.weight for part in self.parts)
        law = [0.0] * (self.max + 1)
        for part in self.parts:
            for T, p in enumerate(part.lengths.pmf()):
                law[T] += part.weight / total * p
        return law


Stationary = Annotated[Fixed | Uniform | LogUniform | Choice | Geometric | Mixture, Field(discriminator="kind")]


class Curriculum(Strict):
    """A mixture that moves from `start` to `end`: weight of `end` = min(1, training progress / over)."""

    kind: Literal["curriculum"]
    start: Stationary
    end: Stationary
    over: float = Field(gt=0, le=1, description="fraction of training after which only `end` is drawn")

    @property
    def max(self) -> int:
        return max(self.start.max, self.end.max)

    def pmf(self, progress: float = 1.0) -> list[float]:
        """Exact law at a point of training, progress in [0, 1]."""
        w = min(1.0, progress / self.over)
        a, b = (d.pmf() + [0.0] * (self.max - d.max) for d in (self.start, self.end))
        return [(1 - w) * p + w * q for p, q in zip(a, b, strict=True)]


LengthConfig = Annotated[
    Fixed | Uniform | LogUniform | Choice | Geometric | Mixture | Curriculum, Field(discriminator="kind")
]

"""Series in patches. Glossary: `lgmamba.tasks.forecast.task`."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lgmamba.model.sequences import Sequences
from lgmamba.tasks.forecast.config import ForecastConfig
from lgmamba.tasks.forecast.series import ahead, series


@dataclass(frozen=True)
class Patches(Sequences):
    """B series of T steps.

    Attributes:
        x: (B, T, P) values read.
        last: (B, T, S) the last day's values after each step.
        future: (B, T, S) those of the day that follows.
        law: (B, T, S) forecast of the law of the series.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("x", "last", "future", "law")

    x: Tensor
    last: Tensor
    future: Tensor
    law: Tensor

    @classmethod
    def of(cls, config: ForecastConfig, courses: Tensor, steps: Tensor) -> "Patches":
        """Of uniform numbers, as `lgmamba.tasks.forecast.series.series` takes them."""
        S, P = config.season, config.patch
        drawn = series(config, courses, steps)
        days = drawn.y.unfold(1, S, P)  # (B, ..., S), one from every P-th value on
        T = (drawn.y.shape[1] - 2 * S) // P
        after = S // P  # windows from one day to the next
        last, future = days[:, 1 : T + 1], days[:, 1 + after : T + 1 + after]
        return cls(last[..., -P:], last, future, ahead(config, drawn))

"""The section `task:` of a study of composite functions; imports no torch."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import SupervisionConfig, TaskBase
from lgmamba.metrics import ACCURACY, Metric

AT_THE_START = "what is asked for stands among the first steps, and is not there where some of them are left out"


class CompositeConfig(TaskBase):
    """How many numbers there are, and among how many steps the key and its functions stand."""

    ORDERS: ClassVar[tuple[str, ...]] = ("trained", "exception", "unseen_composite", "unseen_symmetric")
    METRICS: ClassVar[tuple[Metric, ...]] = (ACCURACY,)
    REFUSES: ClassVar[Mapping[str, str]] = {
        "assemble": AT_THE_START,
        "window": AT_THE_START,
    }
    NULL: ClassVar[str] = "chance"
    ORACLE: ClassVar[str | None] = "exact"
    ORACLE_DESCRIPTION: ClassVar[str] = "the functions themselves"
    STEPS: ClassVar[str] = "symbols"

    kind: Literal["composite"]
    numbers: int = Field(100, ge=16, le=100_000, description="V, numbers that are keys, filler and answers, modulo V")
    spread: int = Field(
        8,
        ge=4,
        le=1_000_000,
        description="n, steps at the start among which the key and its two functions stand, side by side; the rest is filler",
    )
    order: Literal["trained"] = "trained"
    lengths: LengthConfig
    supervision: SupervisionConfig

    @model_validator(mode="after")
    def _spread_fits(self):
        most = min(self.lengths.max, self.numbers)
        if self.spread > most:
            raise ValueError(
                f"task.spread: found {self.spread}, expected: at most {most}, the longest training length or task.numbers"
            )
        return self

    def described(self, order: str) -> str:
        orders = {
            "trained": "pairs of functions that were trained, with keys at places where they never stood in training",
            "exception": "the pair 3, 4 alone, whose answer is not composed of its functions'",
            "unseen_composite": "the pair 4, 3 alone, which was never trained, with the answer that its functions compose",
            "unseen_symmetric": "the pair 4, 3 alone, which was never trained, with the answer of the pair 3, 4",
        }
        return (
            f"A key, one of {self.numbers} numbers, and two of four functions that add to it stand side by side among the first {self.spread} steps; "
            "everything else is other numbers. The answer is the second function of the first one of the key. Order "
            f"`{order}` in the headline measurements: {orders[order]}."
        )

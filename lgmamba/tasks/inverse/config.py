"""The section `task:` of a study of inverse sequence matching; imports no torch."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import SupervisionConfig, TaskBase
from lgmamba.metrics import ACCURACY, Metric

KEYS, WIDTH = 5, 3
"""Keys that are read, and numbers of each."""
READ = KEYS * (WIDTH + 1)
"""Steps that they take, each with a foreign symbol behind it."""
KEYS_FIRST = (
    "the keys stand among the first steps, and which of them is asked for cannot be told where some are left out"
)


class InverseConfig(TaskBase):
    """How many numbers and foreign symbols there are."""

    ORDERS: ClassVar[tuple[str, ...]] = ("congruent", "mixed", "unseen")
    METRICS: ClassVar[tuple[Metric, ...]] = (ACCURACY,)
    REFUSES: ClassVar[Mapping[str, str]] = {
        "assemble": KEYS_FIRST,
        "window": KEYS_FIRST,
    }
    NULL: ClassVar[str] = "chance"
    ORACLE: ClassVar[str | None] = "exact"
    ORACLE_DESCRIPTION: ClassVar[str] = "the key that is shown reversed"
    STEPS: ClassVar[str] = "symbols"

    kind: Literal["inverse"]
    numbers: int = Field(81, ge=9, le=100_000, description="numbers that keys are made of in training")
    unseen: int = Field(100, ge=9, le=100_000, description="further numbers, which are in no training sequence")
    noise: int = Field(16, ge=1, le=100_000, description="foreign symbols, between keys and in the gap")
    order: Literal["mixed"] = "mixed"
    lengths: LengthConfig
    supervision: SupervisionConfig

    @model_validator(mode="after")
    def _keys_fit(self):
        if self.lengths.max < READ:
            raise ValueError(
                f"task.lengths: found at most {self.lengths.max} steps, expected: {READ} or more, which {KEYS} keys take"
            )
        return self

    def described(self, order: str) -> str:
        orders = {
            "congruent": "numbers that are equal modulo 3, which in training never stand together",
            "mixed": "numbers that are not all equal modulo 3, as in training",
            "unseen": "numbers that are in no training sequence",
        }
        return (
            f"Five of the six orders of three numbers are read as keys, each with a foreign symbol behind it, and then more foreign symbols: what "
            f"grows with length is the gap alone. After the last step one of the keys is shown reversed, and which of the five it is is to be told. "
            f"Order `{order}` in the headline measurements: {orders[order]}."
        )

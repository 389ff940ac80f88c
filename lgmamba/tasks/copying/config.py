"""The section `task:` of a study of selective copying; imports no torch."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import Invariance, SupervisionConfig, TaskBase
from lgmamba.metrics import ACCURACY, Metric


class CopyingConfig(TaskBase):
    """How many symbols are to be kept, and among how many steps they are spread."""

    ORDERS: ClassVar[tuple[str, ...]] = ("spread",)
    METRICS: ClassVar[tuple[Metric, ...]] = (ACCURACY,)
    COUNTEREXAMPLES: ClassVar[frozenset[Invariance]] = frozenset({"subset", "prefix_drop"})
    NULL: ClassVar[str] = "chance"
    ORACLE: ClassVar[str | None] = "exact"
    ORACLE_DESCRIPTION: ClassVar[str] = "all symbols read, in their order"
    STEPS: ClassVar[str] = "symbols"

    kind: Literal["copying"]
    symbols: int = Field(16, ge=2, le=100_000, description="V, symbols that are to be kept")
    items: int = Field(ge=1, le=10_000, description="n, how many of them a sequence has")
    spread: int = Field(
        ge=1, le=1_000_000, description="steps at the start among which they stand at random places; the rest is noise"
    )
    noise: int = Field(1, ge=1, le=100_000, description="symbols that are noise")
    order: Literal["spread"] = "spread"
    lengths: LengthConfig
    supervision: SupervisionConfig

    @model_validator(mode="after")
    def _items_fit(self):
        if not self.items <= self.spread <= self.lengths.max:
            raise ValueError(
                f"task.spread: found {self.spread}, expected: at least task.items, {self.items}, and at most the longest training length, "
                f"{self.lengths.max}"
            )
        return self

    def described(self, order: str) -> str:
        return (
            f"{self.items} of {self.symbols} symbols stand at random places of the first {self.spread} steps; everything else is noise. After "
            "the last step all of them are asked for, in their order, by as many equal markers: what grows with length is the gap alone."
        )

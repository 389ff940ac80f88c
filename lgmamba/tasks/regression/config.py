"""The section `task:` of a study of in-context regression; imports no torch."""

from typing import ClassVar, Literal

from pydantic import Field

from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import Invariance, SupervisionConfig, TaskBase
from lgmamba.metrics import HALF_SQUARE, Metric


class RegressionConfig(TaskBase):
    """Pairs of an unknown linear function, how many of them, and who reads them."""

    ORDERS: ClassVar[tuple[str, ...]] = ("independent",)
    METRICS: ClassVar[tuple[Metric, ...]] = (HALF_SQUARE,)
    INVARIANT: ClassVar[frozenset[Invariance]] = frozenset({"order", "subset", "prefix_drop"})
    NULL: ClassVar[str] = "zero"
    ORACLE: ClassVar[str | None] = "least_squares"
    ORACLE_DESCRIPTION: ClassVar[str] = "least squares on the pairs read"
    STEPS: ClassVar[str] = "pairs"

    def described(self, order: str) -> str:
        return (
            f"Each step reads a pair of a random vector of {self.dim} numbers and its product with hidden weights; the question is "
            "another vector, whose product is to be told. Every sequence has weights of its own, and pairs are independent."
        )

    kind: Literal["regression"]
    dim: int = Field(ge=1, le=1024, description="d, entries of x")
    body: Literal["stack", "s6"] = Field(
        "stack",
        description="the stack of `model`; or one bare S6 layer with fixed step size, for which there is a theory: of `model` it uses "
        "mixer.d_state alone",
    )
    lengths: LengthConfig
    supervision: SupervisionConfig

    @property
    def order(self) -> str:
        return "independent"

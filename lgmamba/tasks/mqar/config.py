"""The section `task:` of a study of multi-query associative recall; imports no torch."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import Invariance, SupervisionConfig, TaskBase
from lgmamba.metrics import ACCURACY, Metric

Order = Literal["gap", "load"]


class MqarConfig(TaskBase):
    """How many keys there are, how many pairs are read, and how many of them are asked for."""

    ORDERS: ClassVar[tuple[str, ...]] = ("gap", "load")
    METRICS: ClassVar[tuple[Metric, ...]] = (ACCURACY,)
    COUNTEREXAMPLES: ClassVar[frozenset[Invariance]] = frozenset({"subset", "prefix_drop"})
    NULL: ClassVar[str] = "chance"
    ORACLE: ClassVar[str | None] = "exact"
    ORACLE_DESCRIPTION: ClassVar[str] = "the values of all keys read"
    STEPS: ClassVar[str] = "symbols"

    kind: Literal["mqar"]
    keys: int = Field(ge=2, le=100_000, description="K, symbols that are keys; as many others are values")
    pairs: int = Field(
        ge=1, le=10_000, description="n, of a sequence with order gap; as many are asked for at once with either order"
    )
    noise: int = Field(
        16,
        ge=1,
        le=100_000,
        description="symbols of the steps between pairs and questions, which are neither keys nor values",
    )
    order: Order = Field(
        "gap", description="gap: n pairs, then noise | load: a new pair every two steps, without noise"
    )
    lengths: LengthConfig
    supervision: SupervisionConfig

    @model_validator(mode="after")
    def _pairs_fit(self):
        if self.pairs > self.keys:
            raise ValueError(
                f"task.pairs: found {self.pairs}, expected: at most task.keys, {self.keys}, since no key comes twice"
            )
        if self.order == "gap" and 2 * self.pairs > self.lengths.max:
            raise ValueError(
                f"task.lengths: found at most {self.lengths.max} steps, expected: {2 * self.pairs} or more, which {self.pairs} pairs take"
            )
        if self.order == "load" and self.lengths.max > 2 * self.keys:
            raise ValueError(
                f"task.lengths: found up to {self.lengths.max} steps, expected: at most {2 * self.keys}, pairs of all {self.keys} keys"
            )
        return self

    def refuses(self, kind: str, mode: str | None = None, order: str | None = None) -> str | None:
        if kind == "assemble" and mode == "stream" and order == "load":
            return "which keys are asked for changes with every step, and in stream mode finished windows are not asked again (mode: prefix works)"
        return super().refuses(kind, mode, order)

    def longest(self, order: str) -> int | None:
        return 2 * self.keys if order == "load" else None

    def described(self, order: str) -> str:
        axes = {
            "gap": f"{self.pairs} pairs, and then noise: what grows with length is the gap alone",
            "load": "a new pair every two steps: what grows with length is what is to be kept",
        }
        return (
            f"Sequences begin with pairs of a key and its value, {self.keys} symbols each; no key comes twice. After the last step "
            f"{self.pairs} keys that were read are asked for, one after the other in random order. Order `{self.order}` in training: "
            f"{axes[self.order]}. Order `{order}` in the headline measurements: {axes[order]}."
        )

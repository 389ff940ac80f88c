"""The section `task:` of a study of next items; imports no torch."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import Invariance, SupervisionConfig, TaskBase
from lgmamba.metrics import HITS, NDCG, Metric

NEWEST = "the next item hangs on the newest ones, and of several windows only the newest has them"


class NextItemConfig(TaskBase):
    """The law of the histories."""

    ORDERS: ClassVar[tuple[str, ...]] = ("time",)
    METRICS: ClassVar[tuple[Metric, ...]] = (HITS, NDCG)
    INVARIANT: ClassVar[frozenset[Invariance]] = frozenset({"prefix_drop"})
    REFUSES: ClassVar[Mapping[str, str]] = {"assemble": NEWEST}
    NULL: ClassVar[str] = "popularity"
    ORACLE: ClassVar[str | None] = "law"
    ORACLE_DESCRIPTION: ClassVar[str] = "the law of the histories, with the user's taste and present genre"
    STEPS: ClassVar[str] = "items"

    kind: Literal["next_item"]
    genres: int = Field(16, ge=2, le=10_000, description="G")
    items: int = Field(32, ge=10, le=100_000, description="items of each genre; the k-th is chosen as often as 1 / k")
    stay: float = Field(
        0.7, ge=0, lt=1, description="chance that the next item is of the present genre, whatever the taste"
    )
    taste: float = Field(
        2.0, ge=0, le=20, description="spread of a user's tastes: logits of the genres are normal with it"
    )
    order: Literal["time"] = "time"
    lengths: LengthConfig
    supervision: SupervisionConfig

    def described(self, order: str) -> str:
        return (
            f"Made-up histories of users, each with a taste for some of {self.genres} genres of {self.items} items. A user stays with a genre "
            "for a while and then takes another as the taste has it; within a genre popular items are chosen more often. Each step reads an "
            "item, and the next one is to be told: a hit is an item among the ten that a model names first, of all items."
        )

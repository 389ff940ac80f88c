"""The section `task:` of a study of forecasting; imports no torch."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import Invariance, SupervisionConfig, TaskBase
from lgmamba.metrics import SKILL, Metric

ONE_SEASON = (
    "a forecast hangs on the newest values, and windows further back say it with the level that the series had then"
)


class ForecastConfig(TaskBase):
    """The law of the series, and how much of it a step reads. Its unit is the standard deviation of the daily course."""

    ORDERS: ClassVar[tuple[str, ...]] = ("time",)
    METRICS: ClassVar[tuple[Metric, ...]] = (SKILL,)
    INVARIANT: ClassVar[frozenset[Invariance]] = frozenset({"prefix_drop"})
    REFUSES: ClassVar[Mapping[str, str]] = {"assemble": ONE_SEASON}
    NULL: ClassVar[str] = "seasonal_naive"
    ORACLE: ClassVar[str | None] = "law"
    ORACLE_DESCRIPTION: ClassVar[str] = "the law of the series, with its courses, its level and its noise apart"
    STEPS: ClassVar[str] = "patches of values"

    kind: Literal["forecast"]
    season: int = Field(48, ge=2, le=10_000, description="S, values of a day; as many are forecast")
    patch: int = Field(8, ge=1, le=10_000, description="P, values that a step reads; divides the season")
    waves: int = Field(3, ge=1, le=100, description="harmonics of the daily course")
    week: float = Field(0.3, ge=0, le=10, description="size of the weekly course, which scales the days")
    noise: float = Field(0.2, gt=0, le=10, description="standard deviation of the noise")
    memory: float = Field(0.8, ge=0, lt=1, description="correlation of the noise from value to value")
    drift: float = Field(0.02, ge=0, le=10, description="standard deviation of a step of the level, a random walk")
    order: Literal["time"] = "time"
    lengths: LengthConfig
    supervision: SupervisionConfig

    @model_validator(mode="after")
    def _patches_fit(self):
        if self.season % self.patch:
            raise ValueError(f"task.patch: found {self.patch}, expected: a divisor of task.season, {self.season}")
        return self

    def described(self, order: str) -> str:
        return (
            f"Made-up series: a daily course of {self.season} values that every series has for itself, scaled from day to day over a week, "
            f"on a level that drifts, with correlated noise. Each step reads {self.patch} values, and told are the {self.season} that "
            "follow. The level is what a forecast spares of the error of repeating the last day."
        )

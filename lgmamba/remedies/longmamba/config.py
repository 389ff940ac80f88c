"""`remedies:` of params.yaml, kind longmamba; imports no torch. What it does is in `lgmamba.remedies.longmamba.remedy`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.mixers.base import Verb
from lgmamba.remedies.entry import Mode, RemedyEntry, Share


class LongMambaConfig(RemedyEntry):
    """In channels of long memory, steps of small step size write and erase nothing (LongMamba)."""

    TITLE: ClassVar[str] = "LongMamba"
    ABOUT: ClassVar[str] = (
        "In channels of long memory, steps of small step size neither write nor erase. Other channels are as they were."
    )
    MODES: ClassVar[dict[str, tuple[Mode, ...]]] = {
        "closed_form": ("prefix", "stream"),
        "as_released": ("prefix", "stream"),
        "bound": ("prefix",),
        "random_steps": ("prefix",),
    }

    kind: Literal["longmamba"]
    threshold: Literal["closed_form", "as_released", "bound"] = Field(
        "closed_form", description="as_released: clamps first; bound: the largest dt of the sequence, up to the budget"
    )
    channels: Literal["global", "all", "random"] = Field(
        "global", description="filtered channels: of long memory; as ablations, all, or as many at random"
    )
    steps: Literal["largest", "random"] = Field("largest", description="kept steps; random ones are an ablation")
    survival: Literal["slow", "mean", "stepmean"] = Field(
        "slow", description="what survives of a write: of the slowest mode, the mean, or by the mean decay of a step"
    )
    above: Share = Field(0.05, description="a channel has long memory if more than this share survives L0 steps")
    clamp: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="share of a sequence's steps clamped by as_released; null: 0.1"
    )

    @model_validator(mode="after")
    def _fits(self):
        if self.steps == "random" and self.threshold != "closed_form":
            raise ValueError(
                f"remedy {self.name!r}: random steps are kept at the rate of closed_form; found threshold: {self.threshold}"
            )
        if self.clamp is not None and self.threshold != "as_released":
            raise ValueError(f"remedy {self.name!r}: clamp belongs to as_released; found threshold: {self.threshold}")
        return self

    @property
    def form_name(self) -> str:
        return "random_steps" if self.steps == "random" else self.threshold

    @property
    def calibrated(self) -> bool:
        return True

    @property
    def description(self) -> str:
        where = {"global": "channels of long memory", "all": "all channels", "random": "as many random channels"}
        kept = {
            "closed_form": "mask small dt",
            "as_released": "mask small dt as released",
            "bound": "largest dt within budget",
        }
        what = "mask random steps" if self.steps == "random" else kept[self.threshold]
        survival = f", survival {self.survival}" if self.survival != "slow" else ""
        return f"{what} in {where[self.channels]}{survival}"

    @property
    def requires(self) -> frozenset[Verb]:
        return frozenset({"mask", "score", "eigenmodes"})

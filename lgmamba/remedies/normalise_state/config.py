"""`remedies:` of params.yaml, kind normalise_state; imports no torch. What it does is in `lgmamba.remedies.normalise_state.remedy`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Positive
from lgmamba.mixers.base import Verb
from lgmamba.remedies.entry import Mode, RemedyEntry


class NormaliseStateConfig(RemedyEntry):
    """Clip the norm of each layer's state (Stuffed Mamba, method 2)."""

    TITLE: ClassVar[str] = "State normalisation"
    ABOUT: ClassVar[str] = (
        "Every step is written, and where the norm of a state exceeds what it was within L0 the state is scaled "
        "down as a whole: old and new content lose alike."
    )
    MODES: ClassVar[dict[str, tuple[Mode, ...]]] = {
        "layer": ("prefix", "stream"),
        "channel": ("prefix", "stream"),
    }
    SCAN: ClassVar[str] = "cut"

    kind: Literal["normalise_state"]
    quantile: Annotated[float, Field(gt=0, le=1)] = Field(
        0.99, description="of the largest norms within L0 over calibration images: the norm that is clipped at"
    )
    groups: Literal["layer", "channel"] = Field("layer", description="whose norm: a layer's state, or each channel's")
    every: Positive = Field(1, description="patches between two clippings")

    @property
    def form_name(self) -> str:
        return self.groups

    @property
    def calibrated(self) -> bool:
        return True

    @property
    def description(self) -> str:
        when = "every step" if self.every == 1 else f"every {self.every} steps"
        return f"|h| of a {self.groups} at most its {self.quantile:g} quantile within L0, {when}"

    @property
    def requires(self) -> frozenset[Verb]:
        return frozenset({"state"})

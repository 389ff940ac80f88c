"""`remedies:` of params.yaml, kind schedule; imports no torch. What it does is in `lgmamba.remedies.schedule.remedy`."""

from typing import ClassVar, Literal

from pydantic import Field

from lgmamba.mixers.base import Verb
from lgmamba.remedies.entry import Mode, RemedyEntry


class ScheduleConfig(RemedyEntry):
    """Gains that follow t: with the calibration lengths as knots, found for all of them at once, this project's own; or a logarithm."""

    TITLE: ClassVar[str] = "Gains that follow t"
    ABOUT: ClassVar[str] = (
        "Beyond L0, what is written, erased and read at step t is scaled by factors that follow t, found for all "
        "lengths of one stream at once: the state stays one, and goes on to take in new steps at the strength that "
        "keeps it readable. Of form temperature, what is read alone is scaled, by ln t / ln L0, and nothing is calibrated."
    )
    MODES: ClassVar[dict[str, tuple[Mode, ...]]] = {
        "step_size": ("stream",),
        "modes": ("stream",),
        "channels": ("stream",),
        "temperature": ("prefix", "stream"),
    }

    kind: Literal["schedule"]
    gains: Literal["step_size", "modes", "channels", "temperature"] = Field(
        "modes",
        description="step_size: one factor a layer on dt; modes: besides, one for each mode on what is written and read; channels: "
        "besides, one for each channel on dt and x; temperature: ln T / ln L0, or in a stream ln t / ln L0, on what is read, "
        "of attention on the products of queries and keys (scaled-log attention)",
    )

    @property
    def form_name(self) -> str:
        return self.gains

    @property
    def calibrated(self) -> bool:
        return self.gains != "temperature"

    @property
    def description(self) -> str:
        if self.gains == "temperature":
            return f"what is read times ln {'T' if self.mode == 'prefix' else 't'} / ln L0 (scaled-log attention)"
        of = {
            "step_size": "dt by layer",
            "modes": "dt by layer, B and C by mode",
            "channels": "dt and x by channel, B and C by mode",
        }
        return f"gains that follow t on {of[self.gains]}, by back-propagation"

    @property
    def requires(self) -> frozenset[Verb]:
        if self.gains == "temperature":
            return frozenset({"read"})
        return frozenset({"slow"} if self.gains == "step_size" else {"slow", "write", "read"})

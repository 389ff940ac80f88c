"""`remedies:` of params.yaml, kind window; imports no torch. What it does is in `lgmamba.remedies.window.remedy`."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.mixers.base import Verb
from lgmamba.remedies.entry import Above0, Mode, RemedyEntry


class WindowConfig(RemedyEntry):
    """Every layer's state holds what the last steps wrote (Stuffed Mamba, method 3)."""

    TITLE: ClassVar[str] = "Sliding window"
    ABOUT: ClassVar[str] = (
        "A state holds what the last steps wrote and nothing older: it never exceeds one of training, and older "
        "steps are lost."
    )
    MODES: ClassVar[dict[str, tuple[Mode, ...]]] = {
        "exact": ("prefix", "stream"),
        "overlap": ("prefix", "stream"),
    }
    SCAN: ClassVar[str] = "replaced"

    kind: Literal["window"]
    r: Above0 = Field(1.0, description="steps of the window, in units of L0")
    form: Literal["exact", "overlap"] = Field(
        "exact", description="exact, or overlapping segments: between r/2 and r steps"
    )

    @model_validator(mode="after")
    def _identity_up_to_L0(self):
        if self.mode == "stream" and self.r < 1:
            raise ValueError(
                f"remedy {self.name!r}: found r: {self.r:g} in stream mode, which changes what is read up to L0; expected r >= 1, "
                "or mode: prefix"
            )
        return self

    @property
    def form_name(self) -> str:
        return self.form

    @property
    def description(self) -> str:
        exactly = "" if self.form == "exact" else f"{self.r / 2:g} to "
        return f"every state holds the last {exactly}{self.r:g} L0 steps"

    @property
    def requires(self) -> frozenset[Verb]:
        return frozenset({"window"})

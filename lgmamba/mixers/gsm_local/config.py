"""`model.mixer` with kind gsm_local."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import EXACT, OVERLAPPING, Verb
from lgmamba.mixers.mamba.inner import WithMamba

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

BY_ATTENTION = "what a step writes hangs on the steps that its attention sees, and so on which are masked"


class GsmLocalConfig(WithMamba):
    """Attention over a window of steps, then Mamba-1 over windows that overlap, each from an empty state."""

    SUPPORTS: ClassVar[dict[Verb, str]] = {
        "slow": "exact in the scan; the lags of attention, and the windows, stay as they are",
        "decay": "exact in the scan",
        "write": "exact in the scan",
        "read": "exact in the scan",
        "mask": "exact; whole steps only",
        "keep": EXACT,
        "state": "the memories of the two windows that a step is in; what attention holds is never touched",
        "reset": EXACT,
        "window": OVERLAPPING,
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "score": BY_ATTENTION,
        "eigenmodes": BY_ATTENTION,
        "attention": "its scan starts anew with every window and is given what attention makes of the steps, so that it has no fixed A",
    }
    TITLE: ClassVar[str] = "local attention, windowed Mamba-1"
    SOURCE: ClassVar[str] = (
        "after Gather-Scatter Mamba (arXiv:2510.00862) and its release, of which only the windows are taken, in a causal form"
    )
    BOUNDED: ClassVar[bool | None] = True  # emptied with every window

    kind: Literal["gsm_local"]
    window: int = Field(
        ge=2, le=1 << 20, multiple_of=2, description="steps that attention sees, and of a window of the scan"
    )
    heads: int = Field(ge=1, le=1024, description="heads of the attention, a divisor of width")
    width: Width = Field(description="inner width of the attention")

    @property
    def why_no_passing(self) -> str | None:
        return "whose scan starts empty with every window, so that it has no state to start from"

    @property
    def description(self) -> str:
        return f"{self.heads} heads and state {self.d_state}, windows of {self.window} steps"

    def problem(self, model: "ModelConfig") -> str | None:
        if self.width % self.heads:
            return f"mixer.heads: found {self.heads}, expected a divisor of mixer.width, {self.width}"
        return None

    def channels(self, model: "ModelConfig") -> int:
        """D of both windows that a step is in."""
        return 2 * int(self.expand * model.d_model)

    def modes(self, model: "ModelConfig") -> int:
        """N."""
        return self.d_state

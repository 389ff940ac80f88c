"""`model.mixer` with kind lrcssm."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import RECURRENT, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

UNKNOWN = (
    "how much a step forgets and writes depends on the state, so that nothing is known of a step before it is read"
)


class LrcssmConfig(MixerBase):
    """LrcSSM with a linear read-out."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {
        "decay": "the rate sigmoid(f) at which a step leaks; its elastance is not changed",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "score": UNKNOWN,
        "eigenmodes": UNKNOWN,
        "attention": "it is not linear in its state, so that its output is no weighted sum of inputs",
    }
    TITLE: ClassVar[str] = "LrcSSM"
    SOURCE: ClassVar[str] = (
        "Farsang, Hasani, Rus & Grosu 2025 (arXiv:2505.21717), the LRC of section 3 with real, diagonal weights of the state"
    )
    BOUNDED: ClassVar[bool | None] = True  # |h| <= |v| / min sigmoid(f), and f is bounded

    kind: Literal["lrcssm"]
    units: Width = Field(description="size of the state, n")
    memory: float = Field(
        0.0,
        description="steps that the state remembers at initialisation, > 2; 0: the bias of the elastance starts as in the release",
    )

    @property
    def description(self) -> str:
        return f"state {self.units}"

    def problem(self, model: "ModelConfig") -> str | None:
        if self.memory and not self.memory > 2:
            return f"mixer.memory: found {self.memory}, expected more than 2 steps, or 0 for the release's"
        return None

    def channels(self, model: "ModelConfig") -> int:
        """n."""
        return self.units

    def modes(self, model: "ModelConfig") -> int:
        """1."""
        return 1

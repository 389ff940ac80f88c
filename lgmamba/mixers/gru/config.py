"""`model.mixer` with kind gru."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import RECURRENT, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

UNKNOWN = "a GRU's gates depend on its state, so that nothing is known of a step before it is read"


class GruConfig(MixerBase):
    """A gated recurrent unit with an out-projection."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {
        "slow": "the update gate z becomes z^s, and what is written 1 - z^s of the candidate",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "score": UNKNOWN,
        "eigenmodes": UNKNOWN,
        "attention": "a GRU is not linear in its state, so that its output is no weighted sum of inputs",
    }

    TITLE: ClassVar[str] = "GRU"
    SOURCE: ClassVar[str] = "Cho et al. 2014 (arXiv:1406.1078), as torch has it"
    BOUNDED: ClassVar[bool | None] = True  # an average

    kind: Literal["gru"]
    hidden: Width = Field(description="size of the state, H")

    @property
    def description(self) -> str:
        return f"state {self.hidden}"

    @property
    def alone(self) -> str | None:
        return "torch's GRU"

    def channels(self, model: "ModelConfig") -> int:
        """H."""
        return self.hidden

    def modes(self, model: "ModelConfig") -> int:
        """1: every channel is one number."""
        return 1

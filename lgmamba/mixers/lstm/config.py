"""`model.mixer` with kind lstm."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import RECURRENT, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

UNKNOWN = "an LSTM's gates depend on its state, so that nothing is known of a step before it is read"


class LstmConfig(MixerBase):
    """A long short-term memory with an out-projection."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {
        "slow": "the forget gate f becomes f^s and the input gate i becomes s i; the output is that of the step at s > 0, and held at 0",
        "state": "the cell c; the output h, which the gates see, is never touched",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "score": UNKNOWN,
        "eigenmodes": UNKNOWN,
        "attention": "an LSTM is not linear in its state, so that its output is no weighted sum of inputs",
    }
    TITLE: ClassVar[str] = "LSTM"
    SOURCE: ClassVar[str] = "Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000, as torch has it"
    BOUNDED: ClassVar[bool | None] = False  # the cell: what is forgotten and what is written have gates of their own

    kind: Literal["lstm"]
    hidden: Width = Field(description="size of the state, H")
    forget_bias: float = Field(1.0, ge=-20, le=20, description="added to the forget gate's bias at initialisation")

    @property
    def description(self) -> str:
        return f"state {self.hidden}"

    @property
    def alone(self) -> str | None:
        return "torch's LSTM"

    def channels(self, model: "ModelConfig") -> int:
        """H."""
        return self.hidden

    def modes(self, model: "ModelConfig") -> int:
        """1: every channel is one number."""
        return 1

    def numbers(self, model: "ModelConfig") -> int:
        """Cell and output."""
        return 2 * self.hidden

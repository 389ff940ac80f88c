"""`model.mixer` with kind mingru."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import BY_INPUT, RECURRENT, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


class MingruConfig(MixerBase):
    """The minimal GRU with an out-projection."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {
        "slow": "the share kept, 1 - z, becomes (1 - z)^s, and what is written 1 - (1 - z)^s of the candidate",
        "score": "-ln(1 - z), how much a step forgets and writes",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "eigenmodes": BY_INPUT,
        "attention": "it is no selective scan: its channels have no B and C",
    }
    TITLE: ClassVar[str] = "minGRU"
    SOURCE: ClassVar[str] = "Feng et al. 2024 (arXiv:2410.01201), section 3.1 and appendix B.2"
    BOUNDED: ClassVar[bool | None] = True  # an average

    kind: Literal["mingru"]
    hidden: Width = Field(description="size of the state, H")
    candidate: Literal["positive", "linear"] = Field(
        "positive",
        description="positive: g(x) = x + 1/2 above 0, else sigmoid(x), as in the log-space form | linear: x",
    )
    memory: float = Field(
        0.0,
        ge=0,
        description="steps that the state remembers at initialisation; 0: the bias of z starts as torch has it",
    )

    @property
    def description(self) -> str:
        return f"state {self.hidden}"

    def channels(self, model: "ModelConfig") -> int:
        """H."""
        return self.hidden

    def modes(self, model: "ModelConfig") -> int:
        """1."""
        return 1

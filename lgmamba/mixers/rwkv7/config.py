"""`model.mixer` with kind rwkv7."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import BY_INPUT, RECURRENT, MixerBase, Verb
from lgmamba.mixers.mamba2.config import whole_heads

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


class Rwkv7Config(MixerBase):
    """The time mixing of RWKV-7, without the residual of values over layers."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {
        "slow": "w becomes w^s, the rate a of removal 1 - (1 - a)^s, and what is written is multiplied by s",
        "decay": "w alone; what the next key removes is not changed",
        "score": "mean of -ln w over a head's keys: how fast a step forgets",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "eigenmodes": BY_INPUT,
        "attention": "what a step removes depends on the state before it, so that its output is no sum over a fixed A",
    }
    TITLE: ClassVar[str] = "RWKV-7"
    SOURCE: ClassVar[str] = "Peng et al. 2025 (arXiv:2503.14456), section 4; without the residual of values over layers"
    BOUNDED: ClassVar[bool | None] = False  # the key that is removed and the key that is written differ
    FLA: ClassVar[bool] = True

    kind: Literal["rwkv7"]
    width: Width = Field(description="channels of keys and values, D; d_model in the release")
    head: Width = Field(description="channels of a head, a divisor of width")
    decay_rank: Width = Field(32, description="rank of the projection to the decay w")
    removal_rank: Width = Field(32, description="rank of the projection to the rate of removal a")
    gate_rank: Width = Field(128, description="rank of the projection to the gate")

    @property
    def description(self) -> str:
        return f"{self.width // self.head} heads of {self.head} channels"

    def problem(self, model: "ModelConfig") -> str | None:
        return whole_heads(self.width, self.head)

    def channels(self, model: "ModelConfig") -> int:
        """D."""
        return self.width

    def modes(self, model: "ModelConfig") -> int:
        """Keys of a head."""
        return self.head

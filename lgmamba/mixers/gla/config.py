"""`model.mixer` with kind gla."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import BY_INPUT, RECURRENT, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


class GlaConfig(MixerBase):
    """Gated linear attention."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {
        "slow": "it has no step size: alpha becomes alpha^s, and what is written is multiplied by s",
        "score": "mean of -ln alpha over a head's keys: how fast a step forgets",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "eigenmodes": BY_INPUT,
        "attention": "its decays are no step size times a fixed A, which this probe is of",
    }
    TITLE: ClassVar[str] = "GLA"
    SOURCE: ClassVar[str] = "Yang et al. 2024 (arXiv:2312.06635), equations 3 and 4 and section 4.4"
    BOUNDED: ClassVar[bool | None] = False
    FLA: ClassVar[bool] = True

    kind: Literal["gla"]
    heads: int = Field(ge=1, le=1024, description="heads, H")
    key: Width = Field(description="width of a key, N")
    value: Width = Field(description="width of a value, P")
    rank: Width = Field(16, description="of the projection that gates")
    temperature: float = Field(
        16.0, gt=0, description="alpha is a sigmoid to the power 1 / temperature; the paper's 16"
    )

    @property
    def description(self) -> str:
        return f"{self.heads} heads, keys of {self.key}, values of {self.value}"

    def channels(self, model: "ModelConfig") -> int:
        """H P."""
        return self.heads * self.value

    def modes(self, model: "ModelConfig") -> int:
        """N."""
        return self.key

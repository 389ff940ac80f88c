"""`model.mixer` with kind lru."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Width
from lgmamba.mixers.base import EXACT, NOT_SELECTIVE, RECURRENT, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


class LruConfig(MixerBase):
    """The linear recurrent unit."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {"eigenmodes": EXACT}
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "score": NOT_SELECTIVE,
        "attention": "it has no B and C that depend on the step: its weights are a fixed kernel of the lag",
    }
    TITLE: ClassVar[str] = "LRU"
    SOURCE: ClassVar[str] = "Orvieto et al. 2023 (arXiv:2303.06349), sections 3.2 to 3.4"
    BOUNDED: ClassVar[bool | None] = True  # writes times sqrt(1 - |lambda|^2)

    kind: Literal["lru"]
    hidden: Width = Field(description="complex numbers of the state, H")
    r_min: float = Field(0.9, ge=0, lt=1, description="smallest retention of a step at initialisation")
    r_max: float = Field(0.999, gt=0, lt=1, description="largest retention of a step at initialisation")

    @model_validator(mode="after")
    def _ordered(self):
        if self.r_min >= self.r_max:
            raise ValueError(f"r_min < r_max; got {self.r_min}, {self.r_max}")
        return self

    @property
    def description(self) -> str:
        return f"state of {self.hidden} complex numbers"

    def channels(self, model: "ModelConfig") -> int:
        """H."""
        return self.hidden

    def modes(self, model: "ModelConfig") -> int:
        """1."""
        return 1

    def numbers(self, model: "ModelConfig") -> int:
        """Complex numbers count twice."""
        return 2 * self.hidden

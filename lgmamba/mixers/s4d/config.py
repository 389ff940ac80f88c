"""`model.mixer` with kind s4d."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.mixers.base import EXACT, NOT_SELECTIVE, RECURRENT, MixerBase, Verb, steps_ordered

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


class S4dConfig(MixerBase):
    """S4D-Lin in Mamba's gated block, without selection."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {"eigenmodes": EXACT}
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "score": NOT_SELECTIVE,
        "attention": "it has no B and C that depend on the step: its weights are a fixed kernel of the lag",
    }
    TITLE: ClassVar[str] = "S4D"
    SOURCE: ClassVar[str] = "Gu, Gupta, Goel & Re 2022 (arXiv:2206.11893), sections 3 and 4.3 (S4D-Lin)"
    BOUNDED: ClassVar[bool | None] = False

    kind: Literal["s4d"]
    d_state: int = Field(ge=1, le=256, description="complex modes of each channel, N")
    expand: float = Field(2, gt=0, le=64, description="inner width / model width")
    dt_min: float = Field(0.001, gt=0, description="smallest step size at initialisation")
    dt_max: float = Field(0.1, gt=0, description="largest step size at initialisation")

    _ordered = model_validator(mode="after")(steps_ordered)

    @property
    def description(self) -> str:
        return f"{self.d_state} complex modes a channel"

    def channels(self, model: "ModelConfig") -> int:
        """D."""
        return int(self.expand * model.d_model)

    def modes(self, model: "ModelConfig") -> int:
        """N."""
        return self.d_state

    def numbers(self, model: "ModelConfig") -> int:
        """Complex modes count twice."""
        return 2 * self.channels(model) * self.d_state

"""`model.mixer` with kind mamba2."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import LONGEST, Strict, Width
from lgmamba.mixers.base import EXACT, VERBS, MixerBase, Verb, steps_ordered
from lgmamba.mixers.mamba.config import Conv

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


BY_STEP = "its decays hang on the number of the step (post)"
AS_READ: tuple[Verb, ...] = ("slow", "decay", "write", "read", "mask", "state", "score")
"""Verbs that change nothing about which step is which."""


class PostConfig(Strict):
    """Decays after PoST (arXiv:2604.07658): geometric over the heads, and falling with the step."""

    length: Annotated[int, Field(ge=2, le=LONGEST)] = Field(
        description="steps that the heads' time scales span at the start, from 1: the training length"
    )
    dt: float = Field(0.05, gt=0, le=10, description="step size of the bias, which is not trained")


class Mamba2Config(MixerBase):
    """Mamba-2, with mamba_ssm's names and initialisation."""

    SUPPORTS: ClassVar[dict[Verb, str]] = dict.fromkeys(VERBS, EXACT)
    WHY_NOT: ClassVar[dict[Verb, str]] = {}
    TITLE: ClassVar[str] = "Mamba-2"
    SOURCE: ClassVar[str] = "Dao & Gu 2024 (arXiv:2405.21060), section 7.1"
    BOUNDED: ClassVar[bool | None] = False
    FLA: ClassVar[bool] = True

    kind: Literal["mamba2"]
    d_state: int = Field(ge=1, le=256, description="state size N")
    d_conv: int = Field(4, ge=1, le=16, description="width of the short convolution, steps")
    expand: float = Field(2, gt=0, le=64, description="inner width / model width")
    head: Width = Field(description="channels of a head, P")
    dt_min: float = Field(0.001, gt=0, description="smallest step size at initialisation")
    dt_max: float = Field(0.1, gt=0, description="largest step size at initialisation")
    conv: Conv = Field("standard", description="none: no short convolution, SiLU alone (d_conv is then not used)")

    post: PostConfig | None = Field(
        None,
        exclude_if=lambda post: post is None,  # files without it stay what they are, to the byte
        description="null, or decays after PoST, which fall with the step; dt_min and dt_max are then not used",
    )

    _ordered = model_validator(mode="after")(steps_ordered)

    @property
    def description(self) -> str:
        without = ", without its short convolution" if self.conv == "none" else ""
        after = "" if self.post is None else f", decays after PoST over {self.post.length} steps"
        return f"heads of {self.head} channels, state {self.d_state}{without}{after}"

    @property
    def supports(self) -> dict[Verb, str]:
        return self.SUPPORTS if self.post is None else dict.fromkeys(AS_READ, EXACT)

    @property
    def why_not(self) -> dict[Verb, str]:
        return self.WHY_NOT if self.post is None else {verb: BY_STEP for verb in VERBS if verb not in AS_READ}

    @property
    def why_no_passing(self) -> str | None:
        return None if self.post is None else f"since {BY_STEP}, and steps before a sequence are not counted"

    def problem(self, model: "ModelConfig") -> str | None:
        if self.post is not None and self.channels(model) < 2 * self.head:
            return f"mixer.post: found one head, expected two or more, over which decays are spread (head: {self.head})"
        return whole_heads(self.channels(model), self.head)

    def channels(self, model: "ModelConfig") -> int:
        """D."""
        return int(self.expand * model.d_model)

    def modes(self, model: "ModelConfig") -> int:
        """N."""
        return self.d_state


def whole_heads(channels: int, head: int) -> str | None:
    """What is wrong with the width of a head, or None."""
    if channels % head:
        return f"mixer.head: found {head}, expected a divisor of the {channels} inner channels"
    return None

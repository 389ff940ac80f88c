"""`model.mixer` with kind rglru."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import EXACT, OVERLAPPING, MixerBase, Verb
from lgmamba.mixers.mamba.config import Conv

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


class RglruConfig(MixerBase):
    """The recurrent block of Hawk and Griffin."""

    SUPPORTS: ClassVar[dict[Verb, str]] = {
        verb: EXACT for verb in ("slow", "decay", "write", "read", "mask", "keep", "state", "reset", "score", "modes")
    } | {"window": OVERLAPPING}
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "attention": "it is no selective scan: its channels have no B and C",
    }
    TITLE: ClassVar[str] = "RG-LRU"
    SOURCE: ClassVar[str] = "De et al. 2024 (arXiv:2402.19427), equations 1 to 4 and section 2.4"
    BOUNDED: ClassVar[bool | None] = True  # writes times sqrt(1 - a^2)

    kind: Literal["rglru"]
    width: Width = Field(description="channels, D")
    blocks: int = Field(ge=1, description="diagonal blocks of the gates' matrices, a divisor of width")
    d_conv: int = Field(4, ge=1, le=16, description="width of the short convolution, steps")
    conv: Conv = Field("standard", description="none: no short convolution (d_conv is then not used)")
    memory: Literal["paper", "code"] = Field(
        "paper",
        description="where a starts, uniform in [0.9, 0.999]: a^8, as the paper has it, or a, as the released code",
    )

    @property
    def words(self) -> str:
        return f"state {self.width}" + (", without its short convolution" if self.conv == "none" else "")

    def problem(self, model: "ModelConfig") -> str | None:
        if self.width % self.blocks:
            return f"mixer.blocks: found {self.blocks}, expected a divisor of mixer.width, {self.width}"
        return None

    def channels(self, model: "ModelConfig") -> int:
        """D."""
        return self.width

    def modes(self, model: "ModelConfig") -> int:
        """1."""
        return 1

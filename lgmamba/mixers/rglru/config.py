"""`model.mixer` with kind rglru."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Strict, Width
from lgmamba.mixers.attention.config import AttentionConfig
from lgmamba.mixers.base import EXACT, RECURRENT, MixerBase, Verb
from lgmamba.mixers.mamba.config import Conv

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


EVERY = 3
"""With local attention every third layer is one, the third, sixth and so on."""
HYBRID = "every third layer is local attention, which has no state that it writes and forgets"


class LocalAttention(Strict):
    """Griffin's local attention, in every third layer: as kind attention with position rope."""

    window: int = Field(ge=2, le=1 << 20, description="steps that a step looks at, itself included")
    heads: int = Field(ge=1, le=1024, description="heads, a divisor of d_model, of even width")
    mlp: int = Field(ge=0, le=1 << 16, description="hidden width of the SwiGLU beside it; 0: none")


class RglruConfig(MixerBase):
    """The recurrent block of Hawk; with local attention in every third layer, Griffin."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {"score": EXACT, "eigenmodes": EXACT}
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
    attention: LocalAttention | None = Field(
        None,
        exclude_if=lambda attention: attention is None,  # files without it stay what they are, to the byte
        description="local attention in every third layer (Griffin); null: in none (Hawk)",
    )
    memory: Literal["paper", "code"] = Field(
        "paper",
        description="where a starts, uniform in [0.9, 0.999]: a^8, as the paper has it, or a, as the released code",
    )
    first: Literal["same", "one"] = Field(
        "same",
        exclude_if=lambda first: first == "same",  # files without it stay what they are, to the byte
        description="how the first step of an empty state is written: same: times sqrt(1 - a^2), as every other; one: as it is (released code)",
    )

    @property
    def title(self) -> str:
        return self.TITLE if self.attention is None else "Griffin"

    @property
    def description(self) -> str:
        more = ", without its short convolution" if self.conv == "none" else ""
        more += ", the first step written whole" if self.first == "one" else ""
        if self.attention is not None:
            more += f", every third layer attention over the last {self.attention.window} steps"
        return f"state {self.width}{more}"

    @property
    def supports(self) -> dict[Verb, str]:
        if self.attention is None:
            return self.SUPPORTS
        return {
            "slow": "exact in recurrent layers, position interpolation in those of local attention",
            "mask": "exact; whole steps only",
            "keep": EXACT,
            "reset": EXACT,
            "window": "segments that overlap in recurrent layers; local attention looks no further than the last r steps",
        }

    @property
    def why_not(self) -> dict[Verb, str]:
        more = {verb: HYBRID for verb in self.SUPPORTS if verb not in self.supports}
        return self.WHY_NOT | more

    @property
    def period(self) -> int:
        return 1 if self.attention is None else EVERY

    def of_layer(self, layer: int) -> MixerBase:
        if self.attention is None or layer % EVERY != EVERY - 1:
            return self
        local = {"heads": self.attention.heads, "mlp": self.attention.mlp, "local": self.attention.window}
        return AttentionConfig.model_validate({"kind": "attention", "position": "rope", **local})

    def problem(self, model: "ModelConfig") -> str | None:
        if self.attention is not None and model.d_model % (2 * self.attention.heads):
            return f"mixer.attention.heads: found {self.attention.heads}, expected heads of even width of d_model, {model.d_model}"
        if self.width % self.blocks:
            return f"mixer.blocks: found {self.blocks}, expected a divisor of mixer.width, {self.width}"
        return None

    def channels(self, model: "ModelConfig") -> int:
        """D."""
        return self.width

    def modes(self, model: "ModelConfig") -> int:
        """1."""
        return 1

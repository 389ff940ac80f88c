"""`model.mixer` with kind mamba."""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Width
from lgmamba.mixers.base import EXACT, VERBS, MixerBase, Verb, steps_ordered

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

Conv = Literal["standard", "none"]
ConvForm = Literal["standard", "none", "ones", "bypass", "product"]
"""What stands between in-projection x and scan; p its short convolution. standard: SiLU(p) | none: SiLU(x) | ones: SiLU of the sum of the
last d_conv x, without weights | bypass: SiLU(p) + x | product: SiLU(p) x."""
WORDS: dict[ConvForm, str] = {
    "standard": "",
    "none": ", without its short convolution",
    "ones": ", its short convolution a plain sum",
    "bypass": ", its short convolution bypassed",
    "product": ", times its short convolution",
}
Biases = Literal["conv", "none", "projections", "all"]
OutInit = Literal["by_depth", "plain"]


class MambaConfig(MixerBase):
    """The sequence mixer: Mamba-1, with mamba_ssm's names."""

    SUPPORTS: ClassVar[dict[Verb, str]] = dict.fromkeys(VERBS, EXACT)
    WHY_NOT: ClassVar[dict[Verb, str]] = {}
    TITLE: ClassVar[str] = "Mamba-1"
    SOURCE: ClassVar[str] = "Gu & Dao 2023 (arXiv:2312.00752), equations 1 and 2 and section 3.4"
    BOUNDED: ClassVar[bool | None] = False
    OFFSETS: ClassVar[bool] = True

    kind: Literal["mamba"]
    d_state: int = Field(ge=1, le=256, description="state size N")
    d_conv: int = Field(ge=1, le=16, description="width of the short convolution, steps")
    expand: float = Field(gt=0, le=64, description="inner width / model width")
    dt_rank: Width | Literal["auto"] = Field(description="rank of the step-size projection; auto = ceil(d_model / 16)")
    dt_min: float = Field(gt=0, description="smallest step size at initialisation")
    dt_max: float = Field(gt=0, description="largest step size at initialisation")
    conv: ConvForm = Field(
        "standard",
        exclude_if=lambda conv: conv == "standard",  # here and below: files without it stay what they are, to the byte
        description="none: no short convolution, SiLU alone (d_conv is then not used), as in the code of arXiv:2603.12499; "
        "ones: its weights are ones | bypass: the input is added | product: multiplied by it, as in arXiv:2509.17514",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        exclude_if=lambda p: p == 0,
        description="share of the in-projection's outputs set to 0 in training",
    )
    biases: Biases = Field(
        "conv",
        exclude_if=lambda biases: biases == "conv",
        description="layers with biases: the convolution's, as in mamba_ssm; of neither; of in- and out-projection; of all",
    )
    out_init: OutInit = Field(
        "by_depth",
        exclude_if=lambda init: init == "by_depth",
        description="whether the out-projection starts divided by the square root of n_layer, as in mamba_ssm's models, or plain",
    )

    _ordered = model_validator(mode="after")(steps_ordered)

    @property
    def description(self) -> str:
        return f"state {self.d_state}{WORDS[self.conv]}"

    @property
    def alone(self) -> str | None:
        return "dropout" if self.dropout else None

    def channels(self, model: "ModelConfig") -> int:
        """D."""
        return int(self.expand * model.d_model)

    def modes(self, model: "ModelConfig") -> int:
        """N."""
        return self.d_state

    def rank(self, model: "ModelConfig") -> int:
        """Rank of the step-size projection."""
        return math.ceil(model.d_model / 16) if self.dt_rank == "auto" else self.dt_rank

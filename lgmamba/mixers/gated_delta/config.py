"""`model.mixer` with kind gated_delta."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import BY_INPUT, RECURRENT, MixerBase, Verb
from lgmamba.mixers.mamba.config import Conv

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


class GatedDeltaConfig(MixerBase):
    """Gated DeltaNet."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {
        "slow": "alpha becomes alpha^s, and what is left along the key, 1 - beta, (1 - beta)^s",
        "decay": "alpha alone; what the next key overwrites is not changed",
        "score": "beta, how much of what is held for its key a step replaces",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "eigenmodes": BY_INPUT,
        "attention": "what a step writes depends on the state before it, so that its output is no sum over a fixed A",
    }
    TITLE: ClassVar[str] = "Gated DeltaNet"
    SOURCE: ClassVar[str] = (
        "Yang et al. 2024 (arXiv:2412.06464), equation 10; negative eigenvalues: Grazzi et al. 2024 (arXiv:2411.12537)"
    )
    BOUNDED: ClassVar[bool | None] = True  # a write takes the place of what is held for its key
    FLA: ClassVar[bool] = True

    kind: Literal["gated_delta"]
    heads: int = Field(ge=1, le=1024, description="heads, H")
    key: Width = Field(description="width of a key, N")
    value: Width = Field(description="width of a value, P")
    eigenvalues: Literal["positive", "negative"] = Field(
        "positive", description="negative: beta up to 2, so that what is held for a key may change its sign"
    )
    d_conv: int = Field(4, ge=1, le=16, description="width of the short convolution, steps")
    conv: Conv = Field("standard", description="none: no short convolution, SiLU alone (d_conv is then not used)")
    dt_min: float = Field(0.001, gt=0, description="smallest step size at initialisation")
    dt_max: float = Field(0.1, gt=0, description="largest step size at initialisation")

    @property
    def description(self) -> str:
        more = ", negative eigenvalues" if self.eigenvalues == "negative" else ""
        more += ", without its short convolution" if self.conv == "none" else ""
        return f"{self.heads} heads, keys of {self.key}, values of {self.value}{more}"

    @property
    def supports(self) -> dict[Verb, str]:
        return {v: how for v, how in self.SUPPORTS.items() if v != "slow" or self.eigenvalues == "positive"}

    @property
    def why_not(self) -> dict[Verb, str]:
        reason = "1 - beta may be negative, and has then no real power"
        return self.WHY_NOT | ({"slow": reason} if self.eigenvalues == "negative" else {})

    def problem(self, model: "ModelConfig") -> str | None:
        if self.dt_min >= self.dt_max:
            return f"mixer.dt_min: found {self.dt_min}, expected less than dt_max, {self.dt_max}"
        return None

    def channels(self, model: "ModelConfig") -> int:
        """H P."""
        return self.heads * self.value

    def modes(self, model: "ModelConfig") -> int:
        """N."""
        return self.key

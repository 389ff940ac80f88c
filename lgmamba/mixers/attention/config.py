"""`model.mixer` with kind attention."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import EXACT, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

Position = Literal["absolute", "sinusoid", "alibi", "rope", "nope"]
KEEPS_ALL = "attention has no state that it writes and forgets: it keeps keys and values of every step"


class AttentionConfig(MixerBase):
    """Causal softmax attention beside a SwiGLU of the same input."""

    SUPPORTS: ClassVar[dict[Verb, str]] = {
        "slow": "position interpolation: step t has the position s t",
        "mask": "keys of masked steps are not looked at by others; whole steps only",
        "keep": EXACT,
        "reset": EXACT,
        "window": "a step looks at the last r steps; overlap is the same",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "decay": KEEPS_ALL,
        "write": KEEPS_ALL,
        "read": KEEPS_ALL,
        "state": KEEPS_ALL,
        "eigenmodes": KEEPS_ALL,
        "score": "how much a step is looked at is known only when later steps have looked",
        "attention": "its weights are a softmax and not those of a selective scan, which this probe is of",
    }
    TITLE: ClassVar[str] = "attention"
    SOURCE: ClassVar[str] = (
        "Vaswani et al. 2017 (arXiv:1706.03762), equation 1; side by side with its MLP as in PaLM (arXiv:2204.02311)"
    )

    kind: Literal["attention"]
    heads: int = Field(ge=1, le=1024, description="heads, a divisor of d_model")
    mlp: int = Field(ge=0, le=1 << 16, description="hidden width of the SwiGLU beside it; 0: none")
    position: Position = Field(
        description="of the step: absolute: learned table | sinusoid | alibi: bias by distance | rope: rotated queries and keys | nope: none"
    )
    rows: Width | None = Field(
        None, description="absolute: steps that the table has a row for; later ones take its last row"
    )

    local: int | None = Field(
        None,
        ge=2,
        le=1 << 20,
        exclude_if=lambda local: local is None,  # files without it stay what they are, to the byte
        description="a step looks at the last so many steps, itself included; null: at all",
    )

    @property
    def why_no_passing(self) -> str | None:
        if self.local is not None:
            return None
        return "whose state grows with every step, so that sequences of a batch would have states of different sizes"

    @property
    def description(self) -> str:
        more = f", over the last {self.local} steps" if self.local else ""
        return f"{self.heads} heads, position {self.position}{more}"

    @property
    def alone(self) -> str | None:
        return "torch's fused attention, whose gradients over stacked weights are not numbers on a GPU"

    @property
    def supports(self) -> dict[Verb, str]:
        if self.position == "nope":
            return {verb: how for verb, how in self.SUPPORTS.items() if verb != "slow"}
        if self.position == "alibi":
            return self.SUPPORTS | {"decay": "slopes of the bias by distance; no factors by mode, as it has no memory"}
        if self.position == "absolute":
            return self.SUPPORTS | {
                "slow": f"{self.SUPPORTS['slow']}, between two rows of the table on the line between them"
            }
        return self.SUPPORTS

    @property
    def why_not(self) -> dict[Verb, str]:
        if self.position == "alibi":
            return {verb: why for verb, why in self.WHY_NOT.items() if verb != "decay"}
        return self.WHY_NOT | (
            {"slow": "without positions there is no pace of time"} if self.position == "nope" else {}
        )

    def problem(self, model: "ModelConfig") -> str | None:
        if model.d_model % self.heads:
            return f"mixer.heads: found {self.heads}, expected a divisor of d_model, {model.d_model}"
        if self.position in ("rope",) and model.d_model // self.heads % 2:
            return f"mixer.heads: found {self.heads} with d_model {model.d_model}, expected heads of even width for position: rope"
        if (self.position == "absolute") != (self.rows is not None):
            return f"mixer.rows: found {self.rows}, expected: a number with position: absolute, and null with others"
        return None

    def channels(self, model: "ModelConfig") -> int:
        """d: it has no memory of modes."""
        return model.d_model

    def modes(self, model: "ModelConfig") -> int:
        """0."""
        return 0

"""`model.mixer` with kind attention."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import EXACT, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

Position = Literal["absolute", "sinusoid", "alibi", "rope", "nope"]
KEEPS_ALL = "attention has no state that it writes and forgets: it keeps keys and values of every step"
LOOKED_AT = "how much a step is looked at is known only when later steps have looked"


class AttentionConfig(MixerBase):
    """Causal softmax attention beside a SwiGLU of the same input."""

    SUPPORTS: ClassVar[dict[Verb, str]] = {
        "slow": "position interpolation: step t has the position s t",
        "read": "products of queries and keys, so that 1 / g_t is the temperature of the softmax; a bias by distance stays as it is",
        "mask": "keys of masked steps are not looked at by others; whole steps only",
        "keep": EXACT,
        "reset": EXACT,
        "window": "a step looks at the last r steps; overlap is the same",
        "score": f"attention that a step receives from a whole sequence, for `keep` alone: {LOOKED_AT}",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "decay": KEEPS_ALL,
        "write": KEEPS_ALL,
        "state": KEEPS_ALL,
        "eigenmodes": KEEPS_ALL,
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
        more: dict[str, dict[Verb, str]] = {
            "alibi": {"decay": "slopes of the bias by distance; no factors by mode, as it has no memory"},
            "absolute": {"slow": f"{self.SUPPORTS['slow']}, between two rows of the table on the line between them"},
        }
        found = self.SUPPORTS | more.get(self.position, {})
        return {verb: how for verb, how in found.items() if verb not in self.why_not}

    @property
    def why_not(self) -> dict[Verb, str]:
        why = dict(self.WHY_NOT)
        if self.position == "alibi":
            del why["decay"]
        if self.position == "nope":
            why["slow"] = "without positions there is no pace of time"
        if self.local is not None:
            why["read"] = (
                "with local a step of a longer sequence looks at no more steps, which a temperature could follow"
            )
        return why

    def refusal(self, verbs: Iterable[Verb]) -> str | None:
        """As of every mixer; and `score` without `keep` is asked for before later steps are read."""
        wanted = frozenset(verbs)
        reasons = [super().refusal(wanted)]
        if "score" in wanted and "keep" not in wanted:
            reasons.append(f"no score: {LOOKED_AT}")
        return "; ".join(reason for reason in reasons if reason is not None) or None

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

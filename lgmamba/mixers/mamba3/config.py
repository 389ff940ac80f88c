"""`model.mixer` with kind mamba3."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Width
from lgmamba.mixers.base import BY_INPUT, RECURRENT, MixerBase, Verb, steps_ordered
from lgmamba.mixers.mamba2.config import whole_heads

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


class Mamba3Config(MixerBase):
    """Mamba-3, with one input and one output a head (SISO) or several (MIMO)."""

    SUPPORTS: ClassVar[dict[Verb, str]] = RECURRENT | {
        "state": "the state; what the step before still has to write is left as it is",
        "score": "-dt A, how fast a step forgets",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "eigenmodes": BY_INPUT,
        "attention": "its decays are no step size times a fixed A, which this probe is of",
    }
    TITLE: ClassVar[str] = "Mamba-3"
    SOURCE: ClassVar[str] = "arXiv:2603.15569, propositions 1 and 4, equations 5 and 6, section 3.4; softplus for -A"
    BOUNDED: ClassVar[bool | None] = False
    FLA: ClassVar[bool] = True
    PHASES: ClassVar[bool] = True

    kind: Literal["mamba3"]
    d_state: int = Field(ge=1, le=256, description="state size N")
    expand: float = Field(2, gt=0, le=64, description="inner width / model width")
    head: Width = Field(description="channels of a head, P")
    rotated: float = Field(0.5, ge=0, le=1, description="share of the N modes that are rotated, in pairs")
    rank: int = Field(
        1,
        ge=1,
        le=64,
        exclude_if=lambda rank: rank == 1,  # files without it stay what they are, to the byte
        description="inputs and outputs of a head, R; 1: SISO, more: MIMO",
    )
    out_norm: Literal["none", "pre_gate_grouped"] = Field(
        "none",
        exclude_if=lambda norm: norm == "none",
        description="none, as in the paper's pure models | pre_gate_grouped: RMSNorm of each head before its gate, as in its hybrids (table 9)",
    )
    dt_min: float = Field(0.001, gt=0, description="smallest step size at initialisation")
    dt_max: float = Field(0.1, gt=0, description="largest step size at initialisation")

    _ordered = model_validator(mode="after")(steps_ordered)

    @property
    def pairs(self) -> int:
        """Pairs of modes that are rotated."""
        return int(self.rotated * self.d_state) // 2

    @property
    def title(self) -> str:
        return self.TITLE if self.rank == 1 else f"{self.TITLE} (MIMO)"

    @property
    def description(self) -> str:
        more = f", {self.rank} inputs and outputs a head" if self.rank > 1 else ""
        more += ", heads normed before the gate" if self.out_norm == "pre_gate_grouped" else ""
        return f"heads of {self.head} channels, state {self.d_state}, {2 * self.pairs} of it rotated{more}"

    def problem(self, model: "ModelConfig") -> str | None:
        return whole_heads(self.channels(model), self.head)

    def channels(self, model: "ModelConfig") -> int:
        """D."""
        return int(self.expand * model.d_model)

    def modes(self, model: "ModelConfig") -> int:
        """N."""
        return self.d_state

    def numbers(self, model: "ModelConfig") -> int:
        """State, and keys and values of the step before."""
        D = self.channels(model)
        return D * self.d_state + self.rank * (D // self.head * self.d_state + D)

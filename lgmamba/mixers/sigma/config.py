"""`model.mixer` with kind sigma."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import EXACT, Verb
from lgmamba.mixers.mamba.inner import WithMamba

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

ANEW = "it flips what it has read, so that all steps are read anew whenever it is asked, and no state goes on from step to step"


class SigmaConfig(WithMamba):
    """SIGMA's gated Mamba-1 of a sequence and of it partly flipped, beside a GRU; only for tasks whose predictions are asked for by queries."""

    SUPPORTS: ClassVar[dict[Verb, str]] = {
        "mask": "exact; whole steps only",
        "keep": EXACT,
        "reset": EXACT,
        "window": "queries see the last r steps; overlap is the same",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "slow": ANEW,
        "decay": ANEW,
        "write": ANEW,
        "read": ANEW,
        "state": ANEW,
        "score": ANEW,
        "eigenmodes": ANEW,
        "attention": "its output is made of two scans and a GRU, and is no weighted sum over a fixed A",
    }
    TITLE: ClassVar[str] = "SIGMA"
    SOURCE: ClassVar[str] = "Liu et al. 2024 (arXiv:2408.11451) and its release; one layer, without its MLP"
    ANSWERS: ClassVar[bool] = True

    kind: Literal["sigma"]
    width: Width = Field(description="inner width, and size of the GRU's state")
    unflipped: int = Field(
        5, ge=1, le=1 << 20, description="last items, the query among them, that the flipped path has in their order"
    )

    @property
    def why_no_passing(self) -> str | None:
        return "whose state grows with every step, so that sequences of a batch would have states of different sizes"

    @property
    def description(self) -> str:
        return f"state {self.d_state}, GRU of {self.width}, all but the last {self.unflipped} flipped"

    @property
    def alone(self) -> str | None:
        return "torch's GRU"

    def problem(self, model: "ModelConfig") -> str | None:
        if model.n_layer != 1:
            return f"n_layer: found {model.n_layer}, expected: 1 with mixer sigma, as steps have no output that another layer could read"
        return None

    def channels(self, model: "ModelConfig") -> int:
        """d: it has no memory of modes."""
        return model.d_model

    def modes(self, model: "ModelConfig") -> int:
        """0."""
        return 0

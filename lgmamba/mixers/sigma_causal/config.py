"""`model.mixer` with kind sigma_causal."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import EXACT, OVERLAPPING, Verb
from lgmamba.mixers.mamba.inner import WithMamba

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

OF_MAMBA = "of Mamba-1's memory alone; the GRU's output is not touched"


class SigmaCausalConfig(WithMamba):
    """Mamba-1 with a gate, and a GRU of short convolutions, side by side."""

    SUPPORTS: ClassVar[dict[Verb, str]] = {
        "slow": "exact in Mamba-1; the GRU's update gate z becomes z^s, s the mean over channels",
        "decay": OF_MAMBA,
        "write": OF_MAMBA,
        "read": OF_MAMBA,
        "mask": "exact of whole steps; of channels Mamba-1's alone",
        "keep": EXACT,
        "state": OF_MAMBA,
        "reset": EXACT,
        "window": OVERLAPPING,
        "score": "Mamba-1's step sizes",
        "eigenmodes": "Mamba-1's",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "attention": "a GRU beside the scan has a part in its output, which is no weighted sum of inputs",
    }
    TITLE: ClassVar[str] = "Mamba-1 beside a GRU, gated"
    SOURCE: ClassVar[str] = (
        "after Liu et al. 2024 (arXiv:2408.11451, SIGMA) and its release, without its flipped path and what looks ahead"
    )
    BOUNDED: ClassVar[bool | None] = False  # its memory is Mamba-1's

    kind: Literal["sigma_causal"]
    width: Width = Field(description="inner width, and size of the GRU's state")

    @property
    def alone(self) -> str | None:
        return "torch's GRU"

    @property
    def description(self) -> str:
        return f"state {self.d_state}, GRU of {self.width}"

    def channels(self, model: "ModelConfig") -> int:
        """D of Mamba-1."""
        return int(self.expand * self.width)

    def modes(self, model: "ModelConfig") -> int:
        """N."""
        return self.d_state

    def numbers(self, model: "ModelConfig") -> int:
        """Mamba-1's memory and the GRU's state."""
        return super().numbers(model) + self.width

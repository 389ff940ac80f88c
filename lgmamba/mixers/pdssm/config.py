"""`model.mixer` with kind pdssm."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import EXACT, OVERLAPPING, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig


class PdssmConfig(MixerBase):
    """PD-SSM: every step moves each number of the state somewhere, and scales and turns it."""

    SUPPORTS: ClassVar[dict[Verb, str]] = {
        "decay": EXACT,
        "write": EXACT,
        "read": EXACT,
        "mask": "exact; whole steps only",
        "keep": EXACT,
        "state": EXACT,
        "reset": EXACT,
        "window": OVERLAPPING,
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "slow": "a matrix that moves each number of the state somewhere else has no fractional power of its kind",
        "score": "it always writes B u and moves the state: nothing says of a step how much it matters",
        "eigenmodes": "numbers of the state change places at every step, so that none is a mode with a rate of its own",
        "attention": "its transitions are not diagonal, which those that this probe is of are",
    }
    TITLE: ClassVar[str] = "PD-SSM"
    SOURCE: ClassVar[str] = "Terzic et al. 2025 (arXiv:2509.22284), equations 1 to 5"
    BOUNDED: ClassVar[bool | None] = False  # what is written does not follow what is forgotten

    kind: Literal["pdssm"]
    d_state: int = Field(ge=1, le=1024, description="complex numbers of the state, N")
    dictionary: int = Field(ge=1, le=1024, description="matrices that a step's permutation is mixed of, K")
    hidden: Width = Field(description="hidden width of the networks that give magnitude and phase")
    start: Literal["zero", "first"] = Field(
        "zero",
        description="state before the first step: zero, or 1 in its first place, as the release has it for automata",
    )

    @property
    def description(self) -> str:
        return f"state of {self.d_state} complex numbers, {self.dictionary} matrices"

    def channels(self, model: "ModelConfig") -> int:
        """N."""
        return self.d_state

    def modes(self, model: "ModelConfig") -> int:
        """1."""
        return 1

    def numbers(self, model: "ModelConfig") -> int:
        """Real ones."""
        return 2 * self.d_state

"""`model.mixer` with kind psm."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import EXACT, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

NO_STATE = "its state is a list of sums of chunks, made by attention: nothing in it decays or is added to"


class PsmConfig(MixerBase):
    """Transformer-PSM as a layer: an aggregator along a tree of chunks, and attention to its sum and the chunk at hand."""

    SUPPORTS: ClassVar[dict[Verb, str]] = {"keep": EXACT, "reset": EXACT}
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "slow": NO_STATE,
        "decay": NO_STATE,
        "write": NO_STATE,
        "read": NO_STATE,
        "mask": "all sequences of a batch share one tree of chunks, in which a step stands where it was read; steps can be dropped instead",
        "state": NO_STATE,
        "window": "its tree is over all chunks; controls truncate and reset read the last steps alone",
        "score": "how much a step counts in a sum is known only when it is made",
        "eigenmodes": NO_STATE,
        "attention": "its weights are softmaxes and not those of a selective scan, which this probe is of",
    }
    TITLE: ClassVar[str] = "PSM"
    SOURCE: ClassVar[str] = "Yau et al. 2025 (arXiv:2506.10918), Transformer-PSM, from secondary sources; as a layer"

    kind: Literal["psm"]
    chunk: Width = Field(description="steps of a chunk, c")
    heads: int = Field(ge=1, le=1024, description="heads of both blocks, a divisor of width")
    width: Width = Field(description="inner width of both blocks' attention; heads of even width")
    mlp: Width = Field(description="hidden width of both blocks' SwiGLU")

    @property
    def why_no_passing(self) -> str | None:
        return "whose state has a sum for each binary digit of the chunks read, so that sequences of a batch would have states of different sizes"

    @property
    def description(self) -> str:
        return f"chunks of {self.chunk} steps, {self.heads} heads"

    def problem(self, model: "ModelConfig") -> str | None:
        if self.width % (2 * self.heads):
            return f"mixer.heads: found {self.heads} with mixer.width {self.width}, expected heads of even width"
        return None

    def channels(self, model: "ModelConfig") -> int:
        """d: it has no memory of modes."""
        return model.d_model

    def modes(self, model: "ModelConfig") -> int:
        """0."""
        return 0

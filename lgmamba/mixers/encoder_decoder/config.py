"""`model.mixer` with kind encoder_decoder."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.mixers.base import EXACT, MixerBase, Verb

if TYPE_CHECKING:
    from lgmamba.config.run import ModelConfig

KEEPS_ALL = "it has no state that it writes and forgets: its encoder reads all steps anew whenever it is asked"


class EncoderDecoderConfig(MixerBase):
    """A transformer in the place of the whole stack; only for tasks whose predictions are asked for by queries."""

    SUPPORTS: ClassVar[dict[Verb, str]] = {
        "mask": "masked steps are not looked at by others, nor by queries; whole steps only",
        "keep": EXACT,
        "reset": EXACT,
        "window": "queries, and the steps that they look at, see the last r steps; overlap is the same",
    }
    WHY_NOT: ClassVar[dict[Verb, str]] = {
        "slow": "without numbers of steps there is no pace of time",
        "decay": KEEPS_ALL,
        "write": KEEPS_ALL,
        "read": KEEPS_ALL,
        "state": KEEPS_ALL,
        "eigenmodes": KEEPS_ALL,
        "score": "how much a step is looked at is known only when queries have looked",
        "attention": "its weights are a softmax and not those of a selective scan, which this probe is of",
    }
    TITLE: ClassVar[str] = "encoder–decoder"
    SOURCE: ClassVar[str] = (
        "Vaswani et al. 2017 (arXiv:1706.03762), section 3, as in the code of arXiv:2603.12499; layer scale of arXiv:2103.17239"
    )
    ANSWERS: ClassVar[bool] = True

    kind: Literal["encoder_decoder"]
    encoder: int = Field(ge=1, le=100, description="layers that read the steps, each looking at all of them")
    decoder: int = Field(
        ge=1,
        le=100,
        description="layers of the queries, which look at each other and at what the encoder made of the steps",
    )
    heads: int = Field(ge=1, le=1024, description="heads, a divisor of d_model")
    mlp: Width = Field(description="hidden width of each layer's MLP")
    layer_scale: float = Field(1e-4, gt=0, le=1, description="what each branch is multiplied by at initialisation")
    drop_path: float = Field(
        0.0, ge=0, lt=1, description="share of sequences for which a branch is left out in training"
    )

    @property
    def why_no_passing(self) -> str | None:
        return "whose state grows with every step, so that sequences of a batch would have states of different sizes"

    @property
    def description(self) -> str:
        return f"{self.encoder} + {self.decoder} layers of {self.heads} heads"

    @property
    def alone(self) -> str | None:
        return "torch's fused attention, whose gradients over stacked weights are not numbers on a GPU"

    def problem(self, model: "ModelConfig") -> str | None:
        if model.n_layer != 1:
            return f"n_layer: found {model.n_layer}, expected: 1 with mixer encoder_decoder, whose layers are mixer.encoder and mixer.decoder"
        if model.d_model % self.heads:
            return f"mixer.heads: found {self.heads}, expected a divisor of d_model, {model.d_model}"
        return None

    def channels(self, model: "ModelConfig") -> int:
        """d: it has no memory of modes."""
        return model.d_model

    def modes(self, model: "ModelConfig") -> int:
        """0."""
        return 0

"""How trained models are looked into: the section `inspect` of params.yaml."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from lgmamba.config.base import Name, Positive, Strict
from lgmamba.config.run import ModelConfig
from lgmamba.config.task import Order
from lgmamba.mixers.base import Verb

LOOKS: Mapping[str, frozenset[Verb]] = {
    "attention": frozenset({"attention"}),
    "distance": frozenset({"attention"}),
    "receptive_field": frozenset({"attention"}),
    "memory": frozenset({"score", "modes"}),
    "states": frozenset({"state", "score", "modes"}),
    "content": frozenset({"state", "read"}),
    "modes": frozenset({"state", "score", "modes", "attention", "slow", "decay", "write", "read", "mask"}),
}
"""What can be looked at -> the verbs that it takes of a mixer."""


def why_not(look: str, model: ModelConfig) -> str | None:
    """Why a model cannot be looked at like this; None where it can."""
    reason = model.mixer.refusal(LOOKS[look])
    return None if reason is None else f"{look} is not defined for mixer {model.mixer.kind}: {reason}"


class InspectConfig(Strict):
    """What the probes of a model's inside look at: attention, receptive fields, states, memory and its modes."""

    runs: list[Name] = Field(min_length=1, description="runs looked into, every seed of them")
    factors: list[Annotated[float, Field(gt=1, le=1e6)]] = Field(
        min_length=1, description="lengths T looked at beyond L0, in units of the run's own L0"
    )
    order: Order = Field(description="visiting order")
    images: int = Field(ge=2, description="held-out images of probe.split, at most")
    fit_images: int = Field(
        ge=8, description="training images that read-outs and ranges of states are fitted on, at most"
    )
    attention_images: Positive = Field(description="held-out images whose attention is made, at most")
    attention_rows: Positive = Field(description="rows of the attention, evenly over the last tenth of the T steps")
    gradient_probes: Positive = Field(description="random directions of the gradient's receptive field")
    swaps: Positive = Field(description="patches swapped in each image")
    read_every: Annotated[float, Field(gt=0, le=1)] = Field(
        description="interventions on groups of modes act every so many L0 steps"
    )
    piece: Positive = Field(description="steps held in memory at a time, patches")

    @model_validator(mode="after")
    def _each_once(self):
        for key in ("runs", "factors"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise ValueError(f"{key} with each entry once; got {values}")
        return self

    def steps(self, L0: int) -> list[int]:
        """L0, and the lengths T looked at beyond it, patches, ascending."""
        return sorted({L0, *(max(L0 + 1, round(f * L0)) for f in self.factors)})

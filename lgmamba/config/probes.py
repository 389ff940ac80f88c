"""How trained models are looked into: the section `probes` of params.yaml."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from lgmamba.config.base import Name, Positive, Strict
from lgmamba.config.claims import Lengths, steps_at
from lgmamba.config.run import ModelConfig
from lgmamba.config.task import Order, TaskBase
from lgmamba.mixers.base import Verb

Kind = Literal[
    "attention", "distance", "receptive_field", "memory", "states", "content", "modes", "read_outs", "told_lengths"
]

NEEDS: Mapping[str, frozenset[Verb]] = {
    "attention": frozenset({"attention"}),
    "distance": frozenset({"attention"}),
    "receptive_field": frozenset({"attention"}),
    "memory": frozenset({"score", "eigenmodes"}),
    "states": frozenset({"state", "score", "eigenmodes"}),
    "content": frozenset({"state", "read"}),
    "modes": frozenset({"state", "score", "eigenmodes", "attention", "slow", "decay", "write", "read", "mask"}),
    "read_outs": frozenset(),
    "told_lengths": frozenset(),
}
"""Probe -> the verbs that it takes of a mixer."""

FRAMES: Mapping[str, tuple[str, ...]] = {kind: (kind,) for kind in get_args(Kind)} | {
    "states": ("states", "cycles"),
    "modes": ("modes", "explained", "groups", "remedy_effects"),
}
"""Probe -> the frames that it writes."""
INSIDE = tuple(kind for kind in get_args(Kind) if kind not in ("read_outs", "told_lengths"))
"""Probes of the inside of a model that reads cells of a grid."""


def why_not(kind: str, model: ModelConfig) -> str | None:
    """Why a model cannot be looked at like this; None where it can."""
    reason = model.mixer.refusal(NEEDS[kind])
    return None if reason is None else f"{kind} is not defined for mixer {model.mixer.kind}: {reason}"


def why_not_task(kind: str, task: TaskBase) -> str | None:
    """Why no model of a task can be looked at like this; None where one can."""
    if kind in INSIDE:
        return task.refuses("probes")
    if kind == "told_lengths":
        return None
    return None if task.IMAGES else "its predictions are no pictures, whose pixels a read-out could be fitted to"


READ_OUT_AT = ["L0 / 4", "L0", "4 L0", "25 L0"]


class ProbesConfig(Strict):
    """What the probes of a model's inside kind at: attention, receptive fields, states, memory and its modes."""

    RENAMED: ClassVar = {"looks": "kinds", "factors": "length_ratios", "piece": "chunk"}

    runs: list[Name] = Field(min_length=1, description="runs looked into, every seed of them")
    kinds: list[Kind] = Field(
        list(INSIDE),
        min_length=1,
        exclude_if=lambda kinds: kinds == list(INSIDE),  # files without read-outs stay what they are, to the byte
        description="which probes; read_outs: the image read out of the model's outputs, for every task with pictures; "
        "told_lengths: what wrong lengths do to a run that is told its own, for every task",
    )
    read_out_at: Lengths = Field(
        READ_OUT_AT,
        exclude_if=lambda at: at == READ_OUT_AT,
        description="of read_outs: lengths, in the words of claims; L0 is always one",
    )
    length_ratios: list[Annotated[float, Field(gt=1, le=1e6)]] = Field(
        min_length=1,
        default=[2, 4, 8, 25],
        description="lengths T looked at beyond L0, in units of the run's own L0; read-outs have read_out_at",
    )
    order: Order = Field(description="visiting order")
    images: int = Field(ge=2, description="held-out images of evaluation.split, at most")
    fit_images: int = Field(
        ge=8, description="training images that read-outs and ranges of states are fitted on, at most"
    )
    attention_images: Positive = Field(8, description="held-out images whose attention is made, at most")
    attention_rows: Positive = Field(8, description="rows of the attention, evenly over the last tenth of the T steps")
    gradient_probes: Positive = Field(4, description="random directions of the gradient's receptive field")
    swaps: Positive = Field(4, description="patches swapped in each image")
    read_every: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="interventions on groups of modes act every so many L0 steps"
    )
    chunk: Positive = Field(description="steps held in memory at a time, patches")

    @model_validator(mode="after")
    def _each_once(self):
        for key in ("runs", "kinds", "length_ratios", "read_out_at"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise ValueError(f"{key} with each entry once; got {values}")
        return self

    def steps(self, L0: int) -> list[int]:
        """L0, and the lengths T looked at beyond it, patches, ascending."""
        return sorted({L0, *(max(L0 + 1, round(f * L0)) for f in self.length_ratios)})

    def read_out_steps(self, L0: int) -> list[int]:
        """L0, and the other lengths at which read-outs are fitted, patches, ascending."""
        return sorted({L0, *steps_at(self.read_out_at, L0)})

    @property
    def frames(self) -> tuple[str, ...]:
        """The frames that are written of a run."""
        return tuple(frame for kind in get_args(Kind) if kind in self.kinds for frame in FRAMES[kind])

    @property
    def all_inside(self) -> bool:
        """Whether all probes of the inside are run, which the report tells together."""
        return set(INSIDE) <= set(self.kinds)

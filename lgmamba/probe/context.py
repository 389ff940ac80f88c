"""What the probes of `lgmamba.probe.probes` share: a model, images to look at it with, and passes over them.

Glossary: `lgmamba.probe`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.config.files import ProbesFile
from lgmamba.data.dataset import Dataset
from lgmamba.model import SequenceModel, Sequences
from lgmamba.probe.states import TrainingStates, training_states
from lgmamba.probe.stops import LayerTrace, layer_traces, stops
from lgmamba.tasks.base import Task

Columns = dict[str, list[Any]]
STEPS_WITHIN = 16
"""Steps up to L0 at which training states are looked at, at most."""


@dataclass
class ProbeContext:
    """A trained model, the images it is looked at with, and what several probes share."""

    model: SequenceModel
    task: Task
    dataset: Dataset
    config: ProbesFile
    attention_error: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        for split, least in ((self.config.split, 2), ("train", 8)):
            found = len(self.dataset.split(split))
            if found < least:
                raise ConfigError(
                    f"probes: found {found} images in split {split!r}, expected {least} or more (data.splits)"
                )

    @property
    def L0(self) -> int:
        return self.model.L0

    @property
    def steps(self) -> list[int]:
        """L0, and lengths beyond it."""
        return self.config.steps

    @property
    def chunk(self) -> int:
        return self.config.probes.chunk

    def sequences(
        self, images: int, repeat: int = 0, order: str | None = None, split: str | None = None, steps: int | None = None
    ) -> Sequences:
        """The first images of a split, by default the held-out one, up to a step, by default the longest length."""
        rows = self.dataset.split(split or self.config.split)[:images]
        order = order or self.config.probes.order
        return self.task.held_out(rows, order, repeat, steps or self.steps[-1])

    def rows(self, split: str | None = None) -> Tensor:
        """The images looked at of a split, by default the held-out one; of "train" those that read-outs are fitted on."""
        probes = self.config.probes
        return self.dataset.split(split or self.config.split)[
            : probes.fit_images if split == "train" else probes.images
        ]

    @cached_property
    def held_out(self) -> Sequences:
        return self.sequences(self.config.probes.images)

    @cached_property
    def fitted(self) -> Sequences:
        """Training images, for read-outs and for the range of states."""
        return self.sequences(self.config.probes.fit_images, split="train")

    @cached_property
    def attention_batch(self) -> Sequences:
        """Held-out images whose whole passes are kept."""
        return self.held_out[: self.config.probes.attention_images]

    @cached_property
    def layer_traces(self) -> list[LayerTrace]:
        """Whole passes over `attention_batch`, up to the longest length."""
        return layer_traces(self.model, self.attention_batch, self.steps[-1])

    @cached_property
    def training(self) -> list[TrainingStates]:
        """What training images make of each layer's states within L0."""
        n = min(STEPS_WITHIN, self.L0)
        within = sorted({round((k + 1) * self.L0 / n) for k in range(n)})
        return training_states(stops(self.model, self.fitted, within, self.chunk))


def columns_of(rows: Iterable[dict[str, Any]]) -> Columns:
    """Rows with equal keys as columns; there is at least one."""
    rows = list(rows)
    return {key: [row[key] for row in rows] for key in rows[0]}

"""Training batches: images, places read, places asked for, one shape whatever the lengths. Glossary: `lgmamba.tasks.queried.task`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgmamba.config.training import TrainConfig
from lgmamba.tasks.batch import Batch, PassedPart, Sampler, passed_steps
from lgmamba.tasks.queried.augment import draw_affine
from lgmamba.tasks.queried.config import PowerWeight, QueriedConfig, WeightConfig
from lgmamba.tasks.queried.places import Field, draw_places


@dataclass(frozen=True)
class QueriedPassedPart(PassedPart):
    """Images with places, from which the batch's first k sequences go on.

    Attributes:
        rows: (k,) int64 images.
        read: (k, n) int64 places; n may be 0.
        maps: (k, 2, 3) affine maps of the images, those of the sequences, or None.
    """

    rows: Tensor
    read: Tensor
    maps: Tensor | None


@dataclass(frozen=True, kw_only=True)
class QueriedBatch(Batch):
    """Images with places.

    Attributes:
        rows: (B,) int64 images, drawn with replacement.
        read: (B, L) int64 places read, those of a shorter sequence up to its length.
        asked: (B, Q) int64 places asked for.
        maps: (B, 2, 3) random affine maps of the images, or None.
    """

    rows: Tensor
    read: Tensor
    asked: Tensor
    maps: Tensor | None = None


class QueriedSampler(Sampler[QueriedBatch]):
    """Draws images, lengths and places.

    Args:
        field: the places of an image.
    """

    batch = QueriedBatch
    config: QueriedConfig

    def __init__(
        self, config: QueriedConfig, rows: Tensor, train: TrainConfig, seed: int, full_length: bool, field: Field
    ):
        super().__init__(config, rows, train, seed, full_length)
        self.field = field

    def draw_lengths(self, generator: torch.Generator, step: int) -> Tensor:
        if self.config.per == "sample":
            return super().draw_lengths(generator, step)
        one = self.lengths.sample(1, generator, step / self.train.steps)
        return one.expand(self.train.batch_size)

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Any]:
        B, config, passing = len(drawn), self.config, self.train.state_passing
        n = 0 if passing is None else passed_steps(passing, self.lengths.max, self.seed, step)
        places = draw_places(config.order, self.field, B, n + longest, generator)
        k = 0 if passing is None else passing.sequences(B)
        read = torch.cat([places[:k, n:], places[k:, :longest]])
        asked = draw_places("uniform", self.field, B, config.queries, generator)
        maps = None
        if config.augment is not None:
            maps = draw_affine(config.augment, B, self.field.height, self.field.width, generator)
        passed = None
        if passing is not None:
            rows, noise = self.passed_from(step, drawn[:k])
            passed = QueriedPassedPart(noise, rows, places[:k, :n], None if maps is None else maps[:k])
        return {
            "rows": self.rows[drawn],
            "read": read,
            "asked": asked,
            "maps": maps,
            "passed": passed,
        }

    def weights_by_length(self, lengths: Tensor) -> Tensor:
        weights = super().weights_by_length(lengths)
        return weights if self.config.weight is None else weights * weight_of(lengths, self.config.weight)


def weight_of(lengths: Tensor, weight: WeightConfig) -> Tensor:
    """Weight of sequences in the loss by their lengths T: T^-s, or T^-(T^s); float32."""
    T = lengths.double()
    power = T.log() * weight.s if isinstance(weight, PowerWeight) else T.log() * T**weight.s
    return torch.exp(-power).float()

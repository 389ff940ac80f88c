"""The task `queried`: patches at random pixel positions of an image are read; query tokens ask for patches anywhere in it.

It is the task of arXiv:2603.12499 as its public code has it. Tokens of one sequence: [length token] patch 1 .. patch T,
delimiter, queries. Queries go through the recurrence like any token. A prediction after step t is asked for from a copy of the
state there, so that it never disturbs the sequence.

Glossary, with that of `lgmamba.tasks.base`: place = position of a patch (`places`); P patch side (pixels), K = C P P values of a
patch; Q queries; parts of the target are its H x W pixels; targets (B, C, H, W) in [0, 1].
"""

import torch
from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.data.dataset import Dataset
from lgmamba.model.stack import StackState
from lgmamba.tasks.base import Scores
from lgmamba.tasks.images import ImageTask, cross_entropy
from lgmamba.tasks.queried.asked import AskedErrors
from lgmamba.tasks.queried.augment import apply_affine
from lgmamba.tasks.queried.baselines import baseline_pictures
from lgmamba.tasks.queried.batch import QueriedBatch, QueriedPassedPart, QueriedSampler
from lgmamba.tasks.queried.config import QueriedConfig
from lgmamba.tasks.queried.layout import QUERY, slot_kinds, slot_places
from lgmamba.tasks.queried.model import QueriedMamba
from lgmamba.tasks.queried.patches import last_covered_at
from lgmamba.tasks.queried.places import HeldOutPlaces, field_of
from lgmamba.tasks.queried.sequences import QueriedSequences

RANGE = {"signed": 4.0, "unit": 1.0}
"""Squared error on [-1, 1] or [0, 1] over that on [0, 1]."""


class QueriedTask(ImageTask):
    """See the module."""

    config: QueriedConfig

    def __init__(self, config: QueriedConfig, dataset: Dataset):
        super().__init__(config, dataset)
        self.field = field_of(*dataset.image_shape[1:], config.patch_size, config.lengths.max)

    @classmethod
    def build_model(cls, config: QueriedConfig, model: ModelConfig, image_shape: tuple[int, int, int]) -> QueriedMamba:
        return QueriedMamba(model, config, image_shape)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> QueriedSampler:
        return QueriedSampler(self.config, rows, train, seed, full_length, self.field)

    def sequences(self, batch: QueriedBatch) -> QueriedSequences:
        """The images of a batch, mapped, with the places read."""
        return self._read(batch)

    def passed(self, part: QueriedPassedPart) -> QueriedSequences | None:
        return self._read(part) if part.read.shape[1] else None

    def _read(self, part: QueriedBatch | QueriedPassedPart) -> QueriedSequences:
        images = self.dataset.images[part.rows]
        if part.maps is not None:
            images = apply_affine(images.float() / 255, part.maps, self.config.augment.fill)
        return QueriedSequences(images, part.read)

    def head_losses(self, model: QueriedMamba, batch: QueriedBatch, state: StackState | None = None) -> list[Tensor]:
        """Mean over the queries of a sequence, weighted as the batch says: squared error of the patches on the configuration's range,
        and cross-entropy of the class, which is asked for by the same queries.
        """
        kinds = slot_kinds(batch.lengths, batch.read.shape[1], self.config.queries)  # (B, S) slots
        places = slot_places(batch.read, batch.asked, batch.lengths)
        patches = model.cut(self.sequences(batch).images, places)  # (B, S, K)
        tokens = model.slot_tokens(patches, places, kinds)
        outputs = model.slot_outputs(tokens, batch.lengths, state, batch.told(model))
        to_decoder, to_class_head = model.for_heads(outputs, batch.class_weights)
        found = [((model.decode(to_decoder) - patches).square().mean(2), RANGE[self.config.loss_range])]
        if model.class_head is not None:
            found.append((cross_entropy(model.class_head(to_class_head), self.labels(batch.rows)), 1.0))
        means = [(errors * (kinds == QUERY)).sum(1) * (scale / self.config.queries) for errors, scale in found]
        return [(mean * batch.weights[:, 0]).mean() for mean in means]

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> QueriedSequences:
        images = self.dataset.images
        places = HeldOutPlaces(order, self.field, self.dataset.id_hash[rows], repeat, images.device)
        return QueriedSequences(images[rows], places.read(0, steps), self.labels(rows))

    def parts(self, prediction: Tensor, sequences: QueriedSequences) -> Tensor:
        """Squared error of each pixel, mean over channels, (B, S, H W)."""
        return (self.picture(prediction) - sequences.targets[:, None]).square().mean(2).flatten(2)

    def ages(self, sequences: QueriedSequences, steps: Tensor) -> Tensor:
        """Steps since a patch last covered each pixel."""
        last = last_covered_at(self.field, sequences.places, steps)  # (B, S, H W), from 1
        return torch.where(last > 0, steps[:, None] - last, -1)

    def baselines(self, sequences: QueriedSequences, steps: Tensor, ages: Tensor) -> dict[str, Scores]:
        """What anyone could draw; see `lgmamba.tasks.queried.baselines`."""
        targets = sequences.targets
        pictures = baseline_pictures(self.dataset.mean_image, targets, ages)
        scores = {}
        for name, picture in pictures.items():
            parts = self.parts(picture, sequences)
            values = {"mse": parts.mean(2)} | (
                self.commonest_class(sequences, steps) if name == self.config.NULL else {}
            )
            scores[name] = Scores(values, parts if name == self.config.ORACLE else None)
        return scores

    def details(self) -> AskedErrors:
        return AskedErrors(self.field, self.config.queries, self.config.lengths)

    def pictures(self, rows: Tensor, sequences: QueriedSequences) -> dict[str, Tensor]:
        return {"images": rows, "targets": self.dataset.images[rows], "cells": sequences.places}

"""The task `draw`: patches of one image are read in some order; from the output at any step the whole image is drawn.

Glossary, with that of `lgmamba.tasks.base`: gh x gw = G cells of the patch grid (the parts that steps show), K = C P P values of
a patch, P patch side (pixels); targets (B, C, H, W) in [0, 1].
"""

import torch
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.data.dataset import Dataset
from lgmamba.model.stack import StackState
from lgmamba.tasks.base import Scores
from lgmamba.tasks.draw.batch import DrawBatch, DrawPassedPart, DrawSampler
from lgmamba.tasks.draw.config import DrawConfig
from lgmamba.tasks.draw.model import PatchMamba
from lgmamba.tasks.draw.orders import last_visits, order_of_images
from lgmamba.tasks.draw.patches import grid_shape, patchify
from lgmamba.tasks.draw.sequences import DrawSequences, ages_at, sequences_along
from lgmamba.tasks.images import ImageTask, cross_entropy


class DrawTask(ImageTask):
    """See the module."""

    config: DrawConfig

    def __init__(self, config: DrawConfig, dataset: Dataset):
        super().__init__(config, dataset)
        try:
            self.grid = grid_shape(*dataset.image_shape[1:], config.patch_size)
        except ValueError as e:
            raise ConfigError(str(e)) from None

    @classmethod
    def build_model(cls, config: DrawConfig, model: ModelConfig, image_shape: tuple[int, int, int]) -> PatchMamba:
        return PatchMamba(model, image_shape, config.patch_size, config.lengths.max)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> DrawSampler:
        return DrawSampler(self.config, rows, train, seed, full_length, self.grid)

    def sequences(self, batch: DrawBatch) -> DrawSequences:
        return sequences_along(self.dataset.images, self.config.patch_size, batch.rows, batch.cells, batch.before)

    def passed(self, part: DrawPassedPart) -> DrawSequences | None:
        if not part.cells.shape[1]:
            return None
        return sequences_along(self.dataset.images, self.config.patch_size, part.rows, part.cells)

    def head_losses(self, model: PatchMamba, batch: DrawBatch, state: StackState | None = None) -> list[Tensor]:
        """Mean over sequences of the weighted errors at the supervised steps."""
        sequences = self.sequences(batch)
        outputs = model.outputs_at(sequences, batch.steps, batch.told(model), state)
        to_decoder, to_class_head = model.for_heads(outputs, batch.class_weights)
        found = [self.errors(model.decode(to_decoder), sequences, batch.steps)["mse"]]
        if model.class_head is not None:
            found.append(cross_entropy(model.class_head(to_class_head), self.labels(batch.rows)))
        return [(errors * batch.weights).sum(1).mean() for errors in found]

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> DrawSequences:
        cells = order_of_images(order, *self.grid, self.dataset.id_hash[rows], repeat, steps)
        images = self.dataset.images
        labels = self.labels(rows)
        return sequences_along(images, self.config.patch_size, rows, cells.to(images.device), labels=labels)

    def parts(self, prediction: Tensor, sequences: DrawSequences) -> Tensor:
        """Mean squared error in each cell, (B, S, G)."""
        differences = (self.picture(prediction) - sequences.targets[:, None]).flatten(0, 1)
        return patchify(differences, self.config.patch_size).square().mean(2).unflatten(0, prediction.shape[:2])

    def ages(self, sequences: DrawSequences, steps: Tensor) -> Tensor:
        return ages_at(last_visits(sequences.cells, sequences.n_cells, steps), steps)

    def baselines(self, sequences: DrawSequences, steps: Tensor, ages: Tensor) -> dict[str, Scores]:
        """paste: the patches read so far on the mean image, without error once every cell was read; mean_image: nothing read."""
        mean = patchify(self.dataset.mean_image[None], self.config.patch_size)  # (1, G, K)
        of_mean = (mean - sequences.patches).square().mean(2)  # (B, G)
        pasted = torch.where(ages >= 0, 0.0, of_mean[:, None])  # (B, S, G)
        mean_image = of_mean.mean(1)[:, None].expand(pasted.shape[:2])
        nothing_read = {"mse": mean_image} | self.commonest_class(sequences, steps)
        return {"paste": Scores({"mse": pasted.mean(2)}, pasted), "mean_image": Scores(nothing_read)}

    def pictures(self, rows: Tensor, sequences: DrawSequences) -> dict[str, Tensor]:
        return {"images": rows, "targets": self.dataset.images[rows], "cells": sequences.cells}

"""The primary metric on held-out sequences by length, while training. Glossary: `lgmamba.train`."""

import torch

from lgmamba.data.dataset import Dataset
from lgmamba.model.runner import run_sequence
from lgmamba.model.sequences import SequenceModel
from lgmamba.tasks.base import Task

PASS = 256
"""Sequences in one pass."""


class Validation:
    """The same samples, each with the same sequence, every time.

    Args:
        task: draws the sequences, and judges.
        dataset: its split `val` is used.
        samples: at most.
    """

    def __init__(self, task: Task, dataset: Dataset, samples: int):
        self.task = task
        self.sequences = task.held_out(dataset.split("val")[:samples], task.config.order, 0, task.L0)
        self.lengths = validation_lengths(task.L0)
        self.metric = task.metrics[0]

    @property
    def name(self) -> str:
        """Of what is validated, as in the history: val_psnr for pictures."""
        return f"val_{self.metric.level}"

    @torch.no_grad()
    def levels(self, model: SequenceModel) -> dict[int, float]:
        """Length T -> level of the mean error over sequences; a length-adaptive model is told T."""
        model.eval()
        steps = torch.tensor(self.lengths, device=self.sequences.device)
        errors = []
        for start in range(0, len(self.sequences), PASS):
            some = self.sequences[start : start + PASS]
            prediction = run_sequence(model, some, self.lengths, "prefix")
            errors.append(self.task.errors(prediction, some, steps)[self.metric.name])
        model.train()
        return dict(zip(self.lengths, self.metric.of_mean(torch.cat(errors).double().mean(0)).tolist(), strict=True))


def validation_lengths(L0: int) -> list[int]:
    """1, 4, 16, ... and L0, steps."""
    return sorted({4**k for k in range(L0.bit_length()) if 4**k < L0} | {L0})

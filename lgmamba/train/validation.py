"""Metrics on held-out sequences by length, while training. Glossary: `lgmamba.train`."""

import torch

from lgmamba.data.dataset import Dataset
from lgmamba.metrics import ACCURACY, Metric
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
        """Of the primary metric, as in the history: val_psnr for pictures."""
        return _name(self.metric)

    def levels(self, model: SequenceModel) -> dict[int, float]:
        """Length T -> level of the mean primary error over sequences; a length-adaptive model is told T."""
        return self.by_metric(model)[self.name]

    @torch.no_grad()
    def by_metric(self, model: SequenceModel) -> dict[str, dict[int, float]]:
        """The same of every metric, by its name in the history: the primary one first, and accuracy where the model names a class."""
        model.eval()
        steps = torch.tensor(self.lengths, device=self.sequences.device)
        parts = []
        for start in range(0, len(self.sequences), PASS):
            some = self.sequences[start : start + PASS]
            parts.append(self.task.errors(run_sequence(model, some, self.lengths, "prefix"), some, steps))
        model.train()
        found = {}
        for metric in (self.metric, *([] if model.config.class_head is None else [ACCURACY])):
            means = torch.cat([errors[metric.name] for errors in parts]).double().mean(0)
            found[_name(metric)] = dict(zip(self.lengths, metric.of_mean(means).tolist(), strict=True))
        return found


def _name(metric: Metric) -> str:
    return f"val_{metric.level}"


def validation_lengths(L0: int) -> list[int]:
    """1, 4, 16, ... and L0, steps."""
    return sorted({4**k for k in range(L0.bit_length()) if 4**k < L0} | {L0})

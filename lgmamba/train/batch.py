"""What is drawn for one training step: images, visiting orders, lengths, supervised steps.

Everything is drawn from (seed, step) alone. So a resumed training draws what the uninterrupted one would have drawn, and
no state of a random generator needs to be stored. Glossary: `lgmamba.train`.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.config.run import TaskConfig
from lgmamba.task.lengths import LengthDistribution
from lgmamba.task.orders import visiting_order
from lgmamba.task.supervision import supervised_steps


@dataclass(frozen=True)
class Batch:
    """One training batch; sequences of different lengths share it, because the stack is causal.

    Attributes:
        rows: (B,) int64 images, drawn with replacement.
        cells: (B, L) int64 visiting orders, as long as the longest sequence.
        lengths: (B,) int64, each sequence's own length, also what a length-adaptive model is told.
        steps: (B, S) int64 supervised steps, from 1.
        weights: (B, S) float32, sum 1 for each sequence.
    """

    rows: Tensor
    cells: Tensor
    lengths: Tensor
    steps: Tensor
    weights: Tensor


class BatchSampler:
    """Draws the batch of any step.

    Args:
        task: order, lengths, supervision.
        rows: (n,) images of the training split; its device is where batches are drawn.
        grid: rows and columns of the patch grid.
        batch_size: B.
        seed: of the training.
        total_steps: of the training; a curriculum of lengths goes by step / total_steps.
        full_length: whether every batch is L0 steps long, as a recorded CUDA graph needs, or as long as its longest
            sequence. The reconstructions are the same, since nothing after a sequence's own end is looked at.
    """

    def __init__(
        self,
        task: TaskConfig,
        rows: Tensor,
        grid: tuple[int, int],
        batch_size: int,
        seed: int,
        total_steps: int,
        full_length: bool,
    ):
        self.task, self.rows, self.grid, self.batch_size = task, rows, grid, batch_size
        self.seed, self.total_steps, self.full_length = seed, total_steps, full_length
        self.lengths = LengthDistribution(task.lengths)
        self.generator = torch.Generator(rows.device)

    def draw(self, step: int) -> Batch:
        """The batch of this step."""
        g, B = self.generator.manual_seed(seed_of(self.seed, "batch", step)), self.batch_size
        rows = self.rows[torch.randint(len(self.rows), (B,), generator=g, device=g.device)]
        lengths = self.lengths.sample(B, g, step / self.total_steps)
        longest = self.lengths.max if self.full_length else int(lengths.max())
        cells = visiting_order(self.task.order, *self.grid, B, longest, g)
        steps, weights = supervised_steps(self.task.supervision, lengths, longest, g)
        return Batch(rows, cells, lengths, steps, weights)


def seed_of(seed: int, purpose: str, step: int = 0) -> int:
    """A seed that (seed, purpose, step) alone decide; different ones share nothing, as sums of seeds would."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

"""What is drawn for one training step: images, visiting orders, lengths, supervised steps.

Everything is drawn from (seed, step) alone. So a resumed training draws what the uninterrupted one would have drawn, and
no state of a random generator needs to be stored. Glossary: `lgmamba.train`.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.config.run import PassNoise, PassOtherImage, StatePassingConfig, TaskConfig
from lgmamba.task.lengths import LengthDistribution
from lgmamba.task.orders import visiting_order
from lgmamba.task.supervision import supervised_steps


@dataclass(frozen=True)
class PassedPart:
    """What is read, without gradient, before the first k sequences of a batch.

    Attributes:
        rows: (k,) int64 images.
        cells: (k, n) int64 visiting orders; the sequences' own go on from there. n may be 0.
        noise_seed: of the noise that is passed in place of the states; None where they are passed as they are.
    """

    rows: Tensor
    cells: Tensor
    noise_seed: int | None


@dataclass(frozen=True)
class Batch:
    """One training batch; sequences of different lengths share it, because the stack is causal.

    Attributes:
        rows: (B,) int64 images, drawn with replacement.
        cells: (B, L) int64 visiting orders, as long as the longest sequence.
        lengths: (B,) int64, each sequence's own length, also what a length-adaptive model is told.
        steps: (B, S) int64 supervised steps, from 1.
        weights: (B, S) float32, in the loss; their sum for each sequence is 1, or (T / L0)^p with `length_power` p.
        passed: what comes before, or None in a training without state passing.
    """

    rows: Tensor
    cells: Tensor
    lengths: Tensor
    steps: Tensor
    weights: Tensor
    passed: PassedPart | None = None

    TENSORS: ClassVar = ("rows", "cells", "lengths", "steps", "weights")
    """Everything but the passed part, in the order of the constructor."""

    def tensors(self) -> tuple[Tensor, ...]:
        """The values of `TENSORS`."""
        return tuple(getattr(self, name) for name in self.TENSORS)


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
        passing: how sequences start from states of longer ones, or None.
        length_power: p of the weights. The squared error of a short sequence is several times that of a long one, and so is
            its share in the gradient; p > 0 gives some of it back to long sequences.
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
        passing: StatePassingConfig | None = None,
        length_power: float = 0.0,
    ):
        self.task, self.rows, self.grid, self.batch_size = task, rows, grid, batch_size
        self.seed, self.total_steps, self.full_length = seed, total_steps, full_length
        self.lengths = LengthDistribution(task.lengths)
        self.passing, self.length_power = passing, length_power
        self.generator = torch.Generator(rows.device)

    def draw(self, step: int) -> Batch:
        """The batch of this step."""
        g, B = self.generator.manual_seed(seed_of(self.seed, "batch", step)), self.batch_size
        drawn = torch.randint(len(self.rows), (B,), generator=g, device=g.device)
        lengths = self.lengths.sample(B, g, step / self.total_steps)
        longest = self.lengths.max if self.full_length else int(lengths.max())
        n = 0 if self.passing is None else passed_steps(self.passing, self.lengths.max, self.seed, step)
        cells = visiting_order(self.task.order, *self.grid, B, n + longest, g)
        steps, weights = supervised_steps(self.task.supervision, lengths, longest, g)
        if self.length_power:
            weights = weights * (lengths[:, None] / self.lengths.max).float() ** self.length_power
        if self.passing is None:
            return Batch(self.rows[drawn], cells, lengths, steps, weights)
        k = self.passing.sequences(B)
        passed = self._passed_part(step, drawn[:k], cells[:k, :n])
        cells = torch.cat([cells[:k, n:], cells[k:, :longest]])
        return Batch(self.rows[drawn], cells, lengths, steps, weights, passed)

    def _passed_part(self, step: int, drawn: Tensor, cells: Tensor) -> PassedPart:
        # From generators of its own, so that with n = 0 everything else is drawn as without state passing.
        if isinstance(self.passing, PassOtherImage):
            g = torch.Generator(drawn.device).manual_seed(seed_of(self.seed, "passed_image", step))
            apart = torch.randint(1, len(self.rows), drawn.shape, generator=g, device=g.device)
            drawn = (drawn + apart) % len(self.rows)
        noise = seed_of(self.seed, "passed_noise", step) if isinstance(self.passing, PassNoise) else None
        return PassedPart(self.rows[drawn], cells, noise)


def passed_steps(passing: StatePassingConfig, L0: int, seed: int, step: int) -> int:
    """Steps n of the passed part of a batch, 0 .. max_factor x L0, from the law below.

    One n for the whole batch, known on the host without waiting for the device.
    """
    u = torch.rand(
        (), dtype=torch.float64, generator=torch.Generator().manual_seed(seed_of(seed, "passed_steps", step))
    )
    most = passing.longest(L0)
    return min(most, int((most + 2) ** u.item()) - 1)


def passed_steps_pmf(passing: StatePassingConfig, L0: int) -> list[float]:
    """Exact law of n, index = n: p(n) = log((n + 2) / (n + 1)) / log(max_factor x L0 + 2).

    Log-uniform (n + 1 is the floor of such a variable), because what matters is how many times longer a sequence gets.
    """
    most = passing.longest(L0)
    return [math.log((n + 2) / (n + 1)) / math.log(most + 2) for n in range(most + 1)]


def seed_of(seed: int, purpose: str, step: int = 0) -> int:
    """A seed that (seed, purpose, step) alone decide; different ones share nothing, as sums of seeds would."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

"""Training batches: what every task shares of them. Glossary: `lgmamba.tasks.base`.

Everything is drawn from (seed, step) alone. So a resumed training draws what the uninterrupted one would have drawn, and
no state of a random generator needs to be stored.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.config.task import TaskBase
from lgmamba.config.training import PassNoise, PassOtherImage, StatePassingConfig, TrainConfig
from lgmamba.tasks.lengths import LengthDistribution
from lgmamba.tasks.seeds import seed_of
from lgmamba.tasks.supervision import supervised_steps


class Told(Protocol):
    """A model, of which it is asked what it is told in training."""

    @property
    def draws_target_lengths(self) -> bool: ...


@dataclass(frozen=True)
class PassedPart:
    """What is read, without gradient, before the first k sequences of a batch. A task adds what its sequences are made of.

    Attributes:
        noise_seed: of the noise that is passed in place of the states; None where they are passed as they are.
    """

    noise_seed: int | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One training batch; sequences of different lengths share it, because the stack is causal.

    A task's batch adds the tensors that its sequences are made of; batch is axis 0 of each. Of one training with full length
    all batches have tensors of the same shapes, as a recorded CUDA graph and stacked trainings need.

    Attributes:
        lengths: (B,) int64, each sequence's own length.
        others: (B,) int64 lengths of other sequences, of the same law; see `told`.
        steps: (B, S) int64 supervised steps, from 1.
        weights: (B, S) float32, in the loss; their sum for each sequence is 1, or (T / L0)^p with `length_power` p.
        class_weights: (B,) float32, w of each sequence (`lgmamba.tasks.class_head`); None without a class head.
        passed: what comes before, or None in a training without state passing.
    """

    lengths: Tensor
    others: Tensor
    steps: Tensor
    weights: Tensor
    class_weights: Tensor | None = None
    passed: PassedPart | None = None

    def told(self, model: Told) -> Tensor:
        """What a length-adaptive model is told in training, (B,): each sequence's own length, or of a control that of another."""
        return self.others if model.draws_target_lengths else self.lengths

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the passed part, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: v for name, v in values.items() if isinstance(v, Tensor)}

    def with_tensors(self, tensors: dict[str, Tensor]) -> Self:
        """The same with other tensors, such as copies, or those of one of several stacked batches; without a passed part."""
        return replace(self, passed=None, **tensors)


B = TypeVar("B", bound=Batch)


class Sampler(ABC, Generic[B]):
    """Draws the batch of any step: a pure function of (seed, step).

    Args:
        config: lengths, supervision, and what the task draws.
        rows: (n,) int64 samples of the training split; its device is where batches are drawn.
        train: batch size, number of steps (a curriculum of lengths goes by step / steps), state passing, and `length_power` p:
            the squared error of a short sequence is several times that of a long one, and so is its share in the gradient;
            p > 0 gives some of it back to long sequences.
        seed: of the training.
        full_length: whether every batch is L0 steps long, as a recorded CUDA graph needs, or as long as its longest
            sequence. The predictions are the same, since nothing after a sequence's own end is looked at.
    Raises:
        ConfigError: there is no other sample whose state could be passed.
    """

    batch: ClassVar[type[Batch]]

    def __init__(self, config: TaskBase, rows: Tensor, train: TrainConfig, seed: int, full_length: bool):
        if isinstance(train.state_passing, PassOtherImage) and len(rows) < 2:
            raise ConfigError(f"found {len(rows)} training image, expected 2 for train.state_passing other_image")
        self.config, self.rows, self.train, self.seed, self.full_length = config, rows, train, seed, full_length
        self.lengths = LengthDistribution(config.lengths)
        self.generator = torch.Generator(rows.device)

    @abstractmethod
    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Any]:
        """The task's own part of a batch, by name, and `passed` where states are passed.

        Args:
            step: of the training, for generators of its own (`seed_of`).
            drawn: (B,) int64 positions in `rows`, drawn with replacement.
            lengths: (B,) int64 of the sequences.
            longest: steps of the batch, at least the largest of them.
            generator: what all of the batch is drawn from, in a fixed order.
        """

    def draw(self, step: int) -> B:
        """The batch of this step."""
        n = self.train.batch_size
        g = self.generator.manual_seed(seed_of(self.seed, "batch", step))
        drawn = torch.randint(len(self.rows), (n,), generator=g, device=g.device)
        lengths = self.draw_lengths(g, step)
        longest = self.lengths.max if self.full_length else int(lengths.max())
        content = self.content(step, drawn, lengths, longest, g)
        steps, weights = supervised_steps(self.config.supervision, lengths, longest, g)
        weights = weights * self.weights_by_length(lengths)[:, None]
        w = self.train.class_weight
        class_weights = None if w is None else torch.full_like(lengths, w, dtype=torch.float32)
        return self.batch(
            lengths=lengths,
            others=self.draw_others(step),
            steps=steps,
            weights=weights,
            class_weights=class_weights,
            **content,
        )

    def draw_lengths(self, generator: torch.Generator, step: int) -> Tensor:
        """Lengths (B,) of the sequences of this step."""
        return self.lengths.sample(self.train.batch_size, generator, step / self.train.steps)

    def draw_others(self, step: int) -> Tensor:
        """Lengths (B,) of other sequences, from a generator of its own: a model that is told nothing sees the same batches."""
        g = torch.Generator(self.rows.device).manual_seed(seed_of(self.seed, "other_lengths", step))
        return self.lengths.sample(self.train.batch_size, g, step / self.train.steps)

    def passed_from(self, step: int, drawn: Tensor) -> tuple[Tensor, int | None]:
        """What is read before the first sequences of a batch: samples (k,) int64, and the seed of noise that takes its place, or None.

        From generators of its own, so that with no step passed everything else is drawn as without state passing.

        Args:
            drawn: (k,) int64 positions in `rows` of those sequences.
        """
        passing = self.train.state_passing
        if isinstance(passing, PassOtherImage):
            g = torch.Generator(drawn.device).manual_seed(seed_of(self.seed, "passed_image", step))
            apart = torch.randint(1, len(self.rows), drawn.shape, generator=g, device=g.device)
            drawn = (drawn + apart) % len(self.rows)
        noise = seed_of(self.seed, "passed_noise", step) if isinstance(passing, PassNoise) else None
        return self.rows[drawn], noise

    def weights_by_length(self, lengths: Tensor) -> Tensor:
        """Weights (B,) float32 of sequences in the loss."""
        if not self.train.length_power:
            return torch.ones_like(lengths, dtype=torch.float32)
        return (lengths / self.lengths.max).float() ** self.train.length_power


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


def stack_batches(batches: Sequence[B]) -> B:
    """Several batches of equal shapes as one with a new first axis, for stacked trainings."""
    tensors = [batch.tensors() for batch in batches]
    return batches[0].with_tensors({name: torch.stack([t[name] for t in tensors]) for name in tensors[0]})

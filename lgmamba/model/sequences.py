"""What a model reads, and a model that reads it: the two contracts between a task and everything that reads sequences.

Glossary: `lgmamba.model`; S steps at which a prediction is wanted.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from lgmamba.mixers.contract import gather_steps
from lgmamba.model.stack import Stack, StackState


@dataclass(frozen=True)
class Sequences:
    """B sequences of T steps, with what their predictions are compared with. A task adds its tensors; batch is axis 0 of each.

    Class attributes:
        PER_STEP: names of the tensors that hold something for each step, (B, T, ...); at least one, the first is never None.
        TIED: whether each step shows one of a fixed number of parts of the target (the cells of an image). Such sequences
            have `cells`, (B, T) int64, the part that each step shows, and `n_cells`.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ()
    TIED: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, rows: slice | Tensor) -> Self:
        """Some of the sequences."""
        return self._map(lambda _, v: v[rows])

    @property
    def _steps(self) -> Tensor:
        return getattr(self, self.PER_STEP[0])

    @property
    def T(self) -> int:
        """Steps of each sequence."""
        return self._steps.shape[1]

    @property
    def device(self) -> torch.device:
        return self._steps.device

    def to(self, device: torch.device | str) -> Self:
        return self._map(lambda _, v: v.to(device))

    def upto(self, T: int) -> Self:
        """Their first T steps."""
        return self._map(lambda name, v: v[:, :T] if name in self.PER_STEP else v)

    def take(self, positions: Tensor) -> Self:
        """Sequences of some of the steps: positions (B, K), from 0, in the order in which they are to be read."""
        return self._map(lambda name, v: gather_steps(v, positions) if name in self.PER_STEP else v)

    def _map(self, change: Callable[[str, Tensor], Tensor]) -> Self:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(name, v) for name, v in values.items() if isinstance(v, Tensor)})


class SequenceModel(Stack):
    """A stack with the two ends that a task gives it.

    Two kinds of tasks: where the prediction needs the outputs only (`predict`), and where it is asked for by further input that
    the sequence is not to hold afterwards (`ask`; class attribute `asks` is then True, and `predict` is never called).
    """

    asks: ClassVar[bool] = False
    shape: tuple[int, int, int] = (0, 0, 0)
    """(C, H, W) of the images of the data set that it was built for, pixels; zeros without images."""

    @abstractmethod
    def tokens(self, sequences: Sequences, start: int, stop: int) -> Tensor:
        """Tokens (B, stop - start, d) of steps start + 1 .. stop; of a step whatever piece it is read in."""

    def predict(self, outputs: Tensor) -> Tensor:
        """Predictions (..., *shape) from outputs (..., d) of `encode`, float32 (float64 in a float64 model)."""
        raise NotImplementedError(f"{type(self).__name__} has no predict: it is asked")

    def ask(self, state: StackState, sequences: Sequences, t: int, target_length: Tensor | None = None) -> Tensor:
        """The prediction after step t, (B, *shape), from the state there. The state is not changed.

        What a hook does to a pass is not done to what is asked: queries are read as trained.

        Args:
            state: after step t of the sequences.
            target_length: what the pass was told.
        """
        raise NotImplementedError(f"{type(self).__name__} is not asked: it predicts from its outputs")

    def split(self, prediction: Tensor) -> Tensor:
        """Predictions (..., *shape) in the parts that steps show, (..., P, K), where sequences are TIED."""
        raise NotImplementedError(f"{type(self).__name__} has no parts that are tied to steps")

    def join(self, parts: Tensor) -> Tensor:
        """Inverse of `split`."""
        raise NotImplementedError(f"{type(self).__name__} has no parts that are tied to steps")

    def forward(
        self,
        sequences: Sequences,
        steps: Tensor,
        target_length: Tensor | None = None,
        state: StackState | None = None,
    ) -> Tensor:
        """Predictions at some steps of whole sequences, as in training.

        The stack is causal, so sequences of different lengths may share a batch: run them to the longest and read
        sequence b at steps up to its own length. A model that is asked overrides this.

        Args:
            sequences: B of them.
            steps: (B, S) int64 steps at which to predict, from 1.
            target_length: (B,) length told to a length-adaptive model; ignored by a plain one.
            state: where the sequences stand before their first step, or None at their start.
        Returns:
            (B, S, *shape).
        """
        return self.predict(self.outputs_at(sequences, steps, target_length, state))

    def outputs_at(
        self,
        sequences: Sequences,
        steps: Tensor,
        target_length: Tensor | None = None,
        state: StackState | None = None,
    ) -> Tensor:
        """Outputs (B, S, d) at steps (B, S) of whole sequences; arguments as of `forward`."""
        tokens = self.tokens(sequences, 0, sequences.T)
        outputs, _ = self.encode(tokens, state, target_length, want_state=False)
        return gather_steps(outputs, steps - 1)

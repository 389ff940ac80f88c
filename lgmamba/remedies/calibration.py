"""Finding the values of a remedy for one trained model, on samples that are in no other split.

What is lowered is the error of the prediction after the last step, at each length calibrated for. Half of the samples are optimised
on, the other half decide what is kept. Glossary: `lgmamba.remedies`; M factors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Self

import torch
from torch import Tensor

from lgmamba.config.remedies import CalibrationConfig
from lgmamba.mixers.contract import Hook
from lgmamba.model.reading import Readable
from lgmamba.model.runner import ends, read_pieces, target_lengths
from lgmamba.remedies.entry import Mode
from lgmamba.remedies.search import Calibration, Judge, Objective, Q, by_gradient, loss_at_steps, zeroth_order

REACH = 1.25
"""A search can move ln s this many times as far as from L0 to the longest length."""


@dataclass(frozen=True)
class CalibrationSet(Generic[Q]):
    """Sequences to calibrate on, up to the longest length.

    Attributes:
        model: frozen, in eval mode.
        task: says what an error is.
        sequences: one of each sample of the split calib.
        config: how to calibrate.
        steps: lengths that will be reported.
        chunk: steps held in memory at a time.
        seed: of random signs.
    """

    model: Readable[Q, Any]
    task: Judge[Q]
    sequences: Q
    config: CalibrationConfig
    steps: list[int]
    chunk: int
    seed: int

    @property
    def lengths(self) -> list[int]:
        """Lengths T calibrated for, patches."""
        return sorted({max(self.model.L0 + 1, round(f * self.model.L0)) for f in self.config.lengths})

    def tabulated(self, mode: Mode) -> list[int]:
        """Lengths at which thresholds are tabulated: L0 and those reported, and in stream mode half octaves between."""
        L0, last = self.model.L0, self.steps[-1]
        between = [round(L0 * 2 ** (k / 2)) for k in range(64)] if mode == "stream" else []
        return sorted({L0} | {T for T in (*self.steps, *between) if L0 < T <= last})

    def half(self, second: bool) -> Self:
        """The samples to optimise on, or those to keep the best by."""
        middle = len(self.sequences) // 2
        return replace(self, sequences=self.sequences[slice(middle, None) if second else slice(0, middle)])

    def target_lengths(self, T: int) -> Tensor | None:
        """What a length-adaptive model is told, (B,)."""
        return target_lengths(self.model, len(self.sequences), T)

    @torch.no_grad()
    def record(self, recorder: Hook, T: int, whole: bool = False) -> None:
        """Show a recorder one pass over the first T steps, told T; whole, or in pieces."""
        stops = [T] if whole else ends([T], self.chunk)
        for _ in read_pieces(self.model, self.sequences, stops, self.target_lengths(T), recorder):
            pass

    def loss(self, steps: list[int], mode: Mode, make_hook: Callable[[Tensor], Hook], chunk: int | None) -> Objective:
        """Mean error after some steps of one pass, as a function of ln factors (M,).

        A length-adaptive model is told the last of them in prefix mode, and L0 in stream mode.
        """
        length = self.target_lengths(steps[-1] if mode == "prefix" else self.model.L0)
        return loss_at_steps(self.model, self.task, self.sequences, make_hook, steps, length, chunk)


@dataclass(frozen=True)
class Calibrated:
    """JSON values of a remedy, and the forward passes over half of the images that they took."""

    values: dict[str, Any]
    n_forward: int


def search(
    how: str,
    objective: Objective,
    held_out: Objective,
    M: int,
    images: CalibrationSet,
    start: Tensor | None = None,
    bounds: tuple[float, float] | None = None,
) -> Calibration:
    """Factors from 1, or from a start: as far as ln s may have to go. Those that undo a longer sequence are about L0 / T."""
    travel, steps = REACH * math.log(images.lengths[-1] / images.model.L0), images.config.steps
    if how == "gradient":
        return by_gradient(objective, held_out, M, steps, travel, start=start, bounds=bounds)
    return zeroth_order(objective, held_out, M, steps, images.seed, travel=travel, start=start, bounds=bounds)

"""Calls of mixers that forget nothing: every step is kept, with its number, and looked at or not. Glossary: `lgmamba.mixers`."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call


@dataclass(frozen=True, kw_only=True)
class GrowingCall(Call):
    """Steps that are looked at later; a mixer adds what it keeps of them, of width d first in its PER_STEP.

    Attributes:
        index: (B, L) number of each step, float, whatever its position.
        open: (B, L) 1, or 0 where other steps do not look.
        reach: how many steps back are looked at, the last itself included; None for all.
    """

    LINEAR: ClassVar[bool] = False

    index: Tensor
    open: Tensor
    reach: int | None = None

    @property
    def like(self) -> Tensor:
        return self.index

    def mask(self, m: Tensor) -> Self:
        return replace(self, open=self.open * whole_steps(m, *self.shape))

    def window(self, r: int, form: str) -> Self:
        return replace(self, reach=r if self.reach is None else min(r, self.reach))

    def states(self) -> Tensor:
        return self.like.new_zeros(*self.shape, self._width, 0)

    def memory(self) -> Tensor:
        """That of a mixer that has none: (B, d, 0)."""
        return self.like.new_zeros(self.shape[0], self._width, 0)

    @property
    def _width(self) -> int:
        return getattr(self, self.PER_STEP[0]).shape[-1]

    def kept(self, *mine: Tensor) -> tuple[Tensor, ...]:
        """What was held before and of each step of the piece (B, L, ...), one after the other."""
        if not self.held:
            return mine
        return tuple(torch.cat([old.to(new.dtype), new], 1) for old, new in zip(self.held, mine, strict=True))


def whole_steps(m: Tensor, B: int, L: int) -> Tensor:
    """A mask of a mixer that masks whole steps: one that broadcasts to (B, L, 1), as (B, L).

    Raises:
        ValueError: it masks channels.
    """
    if m.shape[-1] != 1:
        raise ValueError(f"this mixer masks whole steps; expected a mask (B, L, 1), got one of {m.shape[-1]} channels")
    return m.expand(B, L, -1)[..., 0]

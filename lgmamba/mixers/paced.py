"""What calls share whose verbs are gains: time runs at a pace, what is written and read has gains, and rates may be changed.

A step is read as h_t = exp(-pace_t change(rates_t)) h_(t-1) + f_t. What f_t is, and how it follows the pace, is each mixer's own. A
call of this kind is read one step after the other, so that every verb acts in every form, by channel or mode; mixers have a
parallel form besides, for when no hook acts. Glossary: `lgmamba.mixers`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar, Self

import torch
from torch import Tensor

from lgmamba.mixers.contract import Call, Factor
from lgmamba.mixers.segments import in_segments

GAINS = ("pace", "wrote", "seen")
Walk = Iterator[tuple[Tensor, Tensor, tuple[Tensor, ...]]]
"""What to finish (B, ...), memory and held after each step."""


@dataclass(frozen=True, kw_only=True)
class PacedCall(Call):
    """A call in gains.

    Attributes:
        pace: (B, L, 1 or channels) how fast time runs; 1 as the layer is, 0 masks a step.
        wrote, seen: (B, L, 1 or modes) gains on what is written and read; 1 as the layer is.
        change: function of rates, broadcast to (B or none, channels, modes), or None.

    Class attributes:
        OWN: names of what a mixer has besides for each step.
    """

    OWN: ClassVar[tuple[str, ...]]
    PER_STEP: ClassVar[tuple[str, ...]] = GAINS

    pace: Tensor
    wrote: Tensor
    seen: Tensor
    change: Callable[[Tensor], Tensor] | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.PER_STEP = (*cls.OWN, *GAINS)

    @property
    def like(self) -> Tensor:
        return self.pace

    def slow(self, s: Factor) -> Self:
        return replace(self, pace=self.pace * (s.to(self.pace) if isinstance(s, Tensor) else s))

    def decay(self, s: Factor | Callable[[Tensor], Tensor]) -> Self:
        f = s if callable(s) else lambda rates: rates * (s.to(rates) if isinstance(s, Tensor) else s)
        g = self.change
        return replace(self, change=f if g is None else lambda rates: f(g(rates)))

    def write(self, g: Tensor) -> Self:
        return replace(self, wrote=self.wrote * g)

    def read(self, g: Tensor) -> Self:
        return replace(self, seen=self.seen * g)

    def mask(self, m: Tensor) -> Self:
        return replace(self, pace=self.pace * m)

    def window(self, r: int, form: str) -> Self:
        """In segments that overlap, whichever form is asked for."""
        return in_segments(self, r)

    def changed(self, rates: Tensor) -> Tensor:
        """Rates as a hook has changed them."""
        return rates if self.change is None else self.change(rates)

    def walk(self) -> Walk:
        """One step after the other."""
        raise NotImplementedError

    def each(self) -> Iterator[SimpleNamespace]:
        """What the call holds for each step, without the axis of steps."""
        for t in range(self.shape[1]):
            yield SimpleNamespace(**{name: getattr(self, name)[:, t] for name in self.PER_STEP})

    def start(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """The memory before the first step."""
        return self.like.new_zeros(self.shape[0], *shape, dtype=dtype) if self.h0 is None else self.h0

    def states(self) -> Tensor:
        return torch.stack([h for _, h, _ in self.walk()], dim=1)

    def read_all(self) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """What a mixer's `recur` gives."""
        ys = []
        for y, h, held in self.walk():  # noqa: B007 - the last memory and held are those after the piece
            ys.append(y)
        return torch.stack(ys, dim=1), h, held


def gains(B: int, L: int, like: Tensor) -> dict[str, Tensor]:
    """Gains of 1."""
    one = torch.ones(B, L, 1, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))
    return dict.fromkeys(GAINS, one)

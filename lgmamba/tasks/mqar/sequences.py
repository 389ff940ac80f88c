"""Sequences of pairs, and what is asked about them. Glossary: `lgmamba.tasks.mqar.task`."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.model.sequences import Sequences


@dataclass(frozen=True)
class Associations(Sequences):
    """B sequences of T symbols.

    Attributes:
        symbol: (B, T) int64.
        known: (B, T) int64, pairs that were read whole by then.
        keys: (B, P) int64 symbols, in the order in which they are read.
        values: (B, P) int64, 0 .. K - 1.
        pick: (B, Q) in [0, 1), which of the known pairs are asked for.
        pinned: (B, Q) int64, the pairs asked for after whatever step; None: as `pick` says of those known then.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("symbol", "known")

    symbol: Tensor
    known: Tensor
    keys: Tensor
    values: Tensor
    pick: Tensor
    pinned: Tensor | None = None

    @classmethod
    def of(cls, K: int, keys: Tensor, values: Tensor, noise: Tensor, pick: Tensor) -> "Associations":
        """With noise (B, T) int64 wherever no pair stands; arguments as the attributes."""
        (B, T), P = noise.shape, keys.shape[1]
        pairs = torch.stack([keys, values + K], dim=2).reshape(B, 2 * P)
        shown = torch.cat([pairs, noise + 2 * K], dim=1)  # the steps after the pairs are noise
        steps = torch.arange(T, device=noise.device)
        known = ((steps + 1) // 2).clamp(max=P).expand(B, T)
        return cls(shown[:, :T], known, keys, values, pick)

    def asked(self, steps: Tensor) -> Tensor:
        """Numbers of the pairs asked for, (B, S, Q), after steps (B, S): of those known then, which are the first."""
        if self.pinned is not None:
            return self.pinned[:, None].expand(-1, steps.shape[1], -1)
        known = self.known.gather(1, steps - 1)[..., None].clamp(min=1)
        return torch.minimum((self.pick[:, None] * known).long(), known - 1)

    def take(self, positions: Tensor) -> "Associations":
        """Of some of the steps; asked for is still what all of them would be asked for at their end."""
        end = torch.full((len(self), 1), self.T, device=self.device)
        return replace(super().take(positions), pinned=self.asked(end)[:, 0])

    def questions_after(self, t: Tensor) -> Tensor:
        """The keys (B, Q) that ask after steps t (B,)."""
        return self.keys.gather(1, self.asked(t[:, None])[:, 0])

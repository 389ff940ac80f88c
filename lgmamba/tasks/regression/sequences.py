"""Pairs of unknown linear functions, and what is asked about them. Glossary: `lgmamba.tasks.regression.task`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.model.sequences import Sequences


@dataclass(frozen=True)
class Pairs(Sequences):
    """B functions, with T pairs and one question each.

    Attributes:
        x: (B, T, d).
        y: (B, T) w.x, without noise.
        query: (B, d) the x that is asked about.
        answer: (B,) w.x of it.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("x", "y")

    x: Tensor
    y: Tensor
    query: Tensor
    answer: Tensor

    @classmethod
    def of(cls, w: Tensor, query: Tensor, x: Tensor) -> "Pairs":
        """Of functions w (B, d), questions (B, d) and inputs (B, T, d)."""
        return cls(x, torch.einsum("btd,bd->bt", x, w), query, (w * query).sum(1))

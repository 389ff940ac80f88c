"""Texts. Glossary: `lgmamba.tasks.bytes.task`."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lgmamba.model.sequences import Sequences


@dataclass(frozen=True)
class Text(Sequences):
    """B texts of T bytes.

    Attributes:
        symbol: (B, T) int64, the bytes read.
        following: (B, T) int64, the byte after each.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("symbol", "following")

    symbol: Tensor
    following: Tensor

"""Symbols and where they have moved an automaton. Glossary: `lgmamba.tasks.automaton.task`."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lgmamba.model.sequences import Sequences


@dataclass(frozen=True)
class Word(Sequences):
    """B words of T symbols.

    Attributes:
        symbol: (B, T) int64.
        label: (B, T) int64, what is to be told after each.
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("symbol", "label")

    symbol: Tensor
    label: Tensor

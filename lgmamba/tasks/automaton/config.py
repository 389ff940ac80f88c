"""The section `task:` of a study of state tracking; imports no torch."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from lgmamba.config.lengths import LengthConfig
from lgmamba.config.task import SupervisionConfig, TaskBase
from lgmamba.metrics import SCALED_ACCURACY, Metric

Name = Literal["parity", "even_pairs", "cycle", "arithmetic", "A5", "S5"]
ABOUT: dict[Name, tuple[int, int, str]] = {
    "parity": (2, 2, "zeros and ones; told is whether the ones are odd in number"),
    "even_pairs": (2, 2, "zeros and ones; told is whether neighbours differ an even number of times"),
    "cycle": (3, 5, "stay, one step on and one step back on a circle of five places; told is the place"),
    "arithmetic": (
        8,
        5,
        "digits 0 to 4 and the operators +, \u2212, \u00d7 in turn; told is the value of the expression so far, modulo 5",
    ),
    "A5": (60, 60, "even permutations of five things; told is their product so far"),
    "S5": (120, 120, "permutations of five things; told is their product so far"),
}
"""Automaton -> symbols that it reads, answers, and both in words."""

EVERY_SYMBOL = "every symbol moves the automaton, so that nothing is left of its state where some are not read"


class AutomatonConfig(TaskBase):
    """Which automaton is followed."""

    ORDERS: ClassVar[tuple[str, ...]] = ("uniform",)
    METRICS: ClassVar[tuple[Metric, ...]] = (SCALED_ACCURACY,)
    REFUSES: ClassVar[Mapping[str, str]] = {
        "assemble": EVERY_SYMBOL,
        "window": EVERY_SYMBOL,
    }
    NULL: ClassVar[str] = "chance"
    ORACLE: ClassVar[str | None] = "exact"
    ORACLE_DESCRIPTION: ClassVar[str] = "the automaton itself"
    STEPS: ClassVar[str] = "symbols"

    kind: Literal["automaton"]
    automaton: Name = Field(description="parity | even_pairs | cycle | arithmetic | A5 | S5")
    order: Literal["uniform"] = "uniform"
    lengths: LengthConfig
    supervision: SupervisionConfig

    @property
    def symbols(self) -> int:
        """V, symbols that are read."""
        return ABOUT[self.automaton][0]

    @property
    def answers(self) -> int:
        """W."""
        return ABOUT[self.automaton][1]

    def described(self, order: str) -> str:
        return f"Automaton `{self.automaton}`: each step reads one of {ABOUT[self.automaton][2]}. Symbols are independent and uniform."

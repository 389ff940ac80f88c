"""The finite automata, as tables.

parity, even_pairs, cycle, arithmetic as in arXiv:2207.02098 (without brackets); A5 and S5 are the word problems of these groups,
state = product so far = product before, then the symbol's permutation.
"""

from dataclasses import dataclass, replace
from itertools import permutations, product

import torch
from torch import Tensor

from lgmamba.tasks.automaton.config import ABOUT, Name
from lgmamba.tensors import constant

DIGITS, OPERATORS = 5, "+-*"


@dataclass(frozen=True)
class Machine:
    """A finite automaton.

    Attributes:
        transitions: (n, V) int64, state and symbol -> next state.
        labels: (n,) int64, state -> what is told, below W.
        start: the state before the first symbol.
        alphabets: first symbol and number of symbols that may be read at the first step, the second, ...; then again from the first.
    """

    transitions: Tensor
    labels: Tensor
    start: int
    alphabets: tuple[tuple[int, int], ...]

    def to(self, device: torch.device) -> "Machine":
        return replace(self, transitions=self.transitions.to(device), labels=self.labels.to(device))

    def symbols(self, uniform: Tensor) -> Tensor:
        """(B, T) int64 from uniform numbers in [0, 1)."""
        T, n = uniform.shape[1], len(self.alphabets)
        low, size = constant(self.alphabets, uniform.device)[torch.arange(T, device=uniform.device) % n].T
        return low + torch.minimum((uniform * size).long(), size - 1)

    def run(self, symbols: Tensor) -> Tensor:
        """What is told after each of the symbols (B, T), int64."""
        state = torch.full_like(symbols[:, 0], self.start)
        states = []
        for symbol in symbols.unbind(1):
            state = self.transitions[state, symbol]
            states.append(state)
        return self.labels[torch.stack(states, dim=1)]


def machine(name: Name) -> Machine:
    """The automaton of a name, on the CPU."""
    if name == "arithmetic":
        return _arithmetic()
    if name == "even_pairs":
        return _even_pairs()
    V, W, _ = ABOUT[name]
    if name in ("A5", "S5"):
        table = _products(even=name == "A5")
    else:
        steps = [0, 1] if name == "parity" else [0, 1, -1]
        table = torch.tensor([[(state + step) % W for step in steps] for state in range(W)])
    return Machine(table, torch.arange(W), 0, ((0, V),))


def _products(even: bool) -> Tensor:
    """The group's table: elements in lexical order, so that the identity is 0; (g, h) -> g, then h."""
    elements = [p for p in permutations(range(5)) if not even or _is_even(p)]
    number = {p: i for i, p in enumerate(elements)}
    return torch.tensor([[number[tuple(h[g[i]] for i in range(5))] for h in elements] for g in elements])


def _is_even(p: tuple[int, ...]) -> bool:
    return sum(p[i] > p[j] for j in range(5) for i in range(j)) % 2 == 0


def _even_pairs() -> Machine:
    """States: nothing read; or the first and the last symbol, which differ as often as not after an even number of changes."""
    states = [None, *product((0, 1), repeat=2)]
    number = {state: i for i, state in enumerate(states)}
    table = [[number[state[0] if state else x, x] for x in (0, 1)] for state in states]
    labels = [int(state is None or state[0] == state[1]) for state in states]
    return Machine(torch.tensor(table), torch.tensor(labels), 0, ((0, 2),))


def _arithmetic() -> Machine:
    """States: sum of the finished terms, the term so far with its sign, the operator that waits (or none); both modulo 5."""
    waiting = [None, *OPERATORS]
    states = list(product(range(DIGITS), range(DIGITS), waiting))
    number = {state: i for i, state in enumerate(states)}

    def read(state: tuple[int, int, str | None], symbol: int) -> tuple[int, int, str | None]:
        total, term, operator = state
        if symbol >= DIGITS:
            return total, term, OPERATORS[symbol - DIGITS]
        if operator == "*":
            return total, term * symbol % DIGITS, None
        return (total + term) % DIGITS, (-symbol if operator == "-" else symbol) % DIGITS, None

    table = [[number[read(state, x)] for x in range(DIGITS + len(OPERATORS))] for state in states]
    labels = [(total + term) % DIGITS for total, term, _ in states]
    return Machine(
        torch.tensor(table), torch.tensor(labels), number[0, 0, "+"], ((0, DIGITS), (DIGITS, len(OPERATORS)))
    )

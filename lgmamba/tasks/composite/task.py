"""The task `composite`: a key and two functions, side by side among other numbers, are read; told is the second function of the first.

One pair of functions has an answer that does not follow from them, the exception; the pair in the other order is never trained. What a
model makes of that pair tells how it reads pairs: `unseen_composite` has the answer that its functions compose, `unseen_symmetric` that of
the exception, which takes both orders for one. The two orders have the same sequences. Keys at step `key mod n` are held out.

The source's sequences have n = 8 steps; with lengths fixed at 8 it is its task, and beyond L0 there is more filler: length is a gap. What
differs: functions have symbols of their own, keys are drawn from all numbers, and its sizes of training are not reached.

Glossary, with that of `lgmamba.tasks.base`: V numbers, symbols 0 .. V - 1, also the answers; functions are symbols V .. V + 3; n steps
among which key and functions stand. A sample is an id alone.
Reference: arXiv:2509.17514, sections 3 and 4.
"""

from typing import Any

from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.tasks.composite.batch import CompositeSampler
from lgmamba.tasks.composite.config import CompositeConfig
from lgmamba.tasks.composite.sequences import EXCEPTION, SHIFTS, TRAINED, UNSEEN, Composition, added
from lgmamba.tasks.draws import below, uniform_of_each
from lgmamba.tasks.symbols import SymbolModel, SymbolTask
from lgmamba.tensors import constant

ASKED = {"trained": TRAINED, "exception": (EXCEPTION,), "unseen_composite": (UNSEEN,), "unseen_symmetric": (UNSEEN,)}
"""Order -> the pairs that are drawn."""


class CompositeTask(SymbolTask):
    """See the module."""

    config: CompositeConfig

    @classmethod
    def build_model(cls, config: Any, model: ModelConfig, image_shape: tuple[int, int, int]) -> SymbolModel:
        return SymbolModel(model, config.lengths.max, config.numbers + len(SHIFTS), config.numbers)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> CompositeSampler:
        return CompositeSampler(self.config, rows, train, seed, full_length)

    def _of(self, order: str, filler: Tensor, key: Tensor, at: Tensor, pair: Tensor) -> Composition:
        pairs = ASKED[order]
        shift = constant(added(pairs, symmetric=order == "unseen_symmetric"), key.device)
        functions = constant(pairs, key.device)
        return Composition.of(self.config.numbers, filler, key, at, functions[pair], shift[pair])

    def sequences(self, batch: Any) -> Composition:
        return self._of("trained", batch.filler, batch.key, batch.at, batch.pair)

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> Composition:
        V, n = self.config.numbers, self.config.spread
        drawn = uniform_of_each(self.dataset.id_hash[rows], repeat, 3 + steps)
        at = below(drawn[:, 0], n - 2)
        own = (V - at + n - 1) // n  # numbers that are `at` modulo n
        key = at + n * below(drawn[:, 1], own)
        pair = below(drawn[:, 2], len(ASKED[order]))
        return self._of(order, below(drawn[:, 3:], V), key, at, pair).to(self.dataset.images.device)

    def targets(self, sequences: Composition, steps: Tensor) -> Tensor:
        return sequences.result[:, None].expand(-1, steps.shape[-1])

    def known(self, sequences: Composition, steps: Tensor) -> Tensor:
        return sequences.place[:, None] <= steps.expand(len(sequences), -1)

    @property
    def chance(self) -> float:
        return 1 / self.config.numbers

"""The task `inverse`: five of the six orders of three numbers are read as keys; one of them is shown reversed, and told is which.

Its reversal may itself be among the keys, so that what looks most like the question is often not the answer. Sets of numbers that are equal
modulo 3 (`congruent`) are held out, and so are the numbers of `unseen`, whose embeddings no training has moved.

As a length test: the source's gap of 3 n_layer foreign symbols, which outlasts the short convolutions, grows. What differs from the source:
the question stands after step t and leaves no trace, and foreign symbols are no numbers.

Glossary, with that of `lgmamba.tasks.base`: numbers are symbols 0 .. N - 1, unseen ones N .. N + M - 1, foreign ones above. A sample is
an id alone.
Reference: arXiv:2509.17514, section 5.
"""

from typing import Any

from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.tasks.draws import below, distinct, uniform_of_each
from lgmamba.tasks.inverse.batch import InverseSampler, mixed
from lgmamba.tasks.inverse.config import KEYS, WIDTH, InverseConfig
from lgmamba.tasks.inverse.sequences import ORDERS_OF_THREE, Keys
from lgmamba.tasks.symbols import AskedSymbols, SymbolTask


class InverseModel(AskedSymbols):
    """Asked by three symbols, of which the last one's output answers: logits (..., 5)."""

    def predict_asked(self, outputs: Tensor) -> Tensor:
        return self.predict(outputs[..., -1, :])


class InverseTask(SymbolTask):
    """See the module."""

    config: InverseConfig

    @classmethod
    def build_model(cls, config: Any, model: ModelConfig, image_shape: tuple[int, int, int]) -> InverseModel:
        return InverseModel(model, config.lengths.max, config.numbers + config.unseen + config.noise, KEYS)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> InverseSampler:
        return InverseSampler(self.config, rows, train, seed, full_length)

    def sequences(self, batch: Any) -> Keys:
        return Keys.of(batch.foreign, batch.numbers, batch.orders, batch.asked)

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> Keys:
        config = self.config
        first = config.numbers if order == "unseen" else 0
        n = config.unseen if order == "unseen" else config.numbers
        sizes = [n, len(ORDERS_OF_THREE), 2, steps]
        drawn = uniform_of_each(self.dataset.id_hash[rows], repeat, sum(sizes))
        numbers, orders, few, foreign = drawn.split(sizes, dim=1)
        if order == "congruent":
            chosen = 3 * distinct(numbers[:, : n // 3], WIDTH) + below(few[:, :1], 3)
        else:
            chosen = distinct(numbers, WIDTH) + first
        found = Keys.of(
            below(foreign, config.noise) + config.numbers + config.unseen,
            mixed(chosen) if order == "mixed" else chosen,
            distinct(orders, KEYS),
            below(few[:, 1], KEYS),
        )
        return found.to(self.dataset.images.device)

    def targets(self, sequences: Keys, steps: Tensor) -> Tensor:
        return sequences.asked[:, None].expand(-1, steps.shape[-1])

    def known(self, sequences: Keys, steps: Tensor) -> Tensor:
        """Once the key that is asked for was read."""
        end = sequences.asked * (WIDTH + 1) + WIDTH
        return end[:, None] <= steps.expand(len(sequences), -1)

    @property
    def chance(self) -> float:
        return 1 / KEYS

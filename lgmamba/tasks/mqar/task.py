"""The task `mqar`: pairs of a key and a value are read, then perhaps noise; asked for the values of keys, one after the other.

Two axes, which Zoology's sequences of growing length mix: `gap` (n pairs at the start, and noise from then on: length alone) and `load`
(a new pair every two steps: what is to be kept). Differences from the source: noise has symbols of its own, since among random ones of
the whole vocabulary keys come again, and the gap would be load; the questions stand together after step t, and not among the noise;
answers are told among the values.

Glossary, with that of `lgmamba.tasks.base`: K keys, symbols 0 .. K - 1; values are symbols K .. 2 K - 1, noise is above; P pairs of a
sequence; Q = n questions at once. A sample is an id alone.
Reference: arXiv:2312.04927 (Zoology), section 4 and appendix; HazyResearch/zoology, zoology/data/multiquery_ar.py.
"""

from typing import Any

from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.tasks.draws import below, distinct, each_once, uniform_of_each
from lgmamba.tasks.mqar.batch import MqarSampler
from lgmamba.tasks.mqar.config import MqarConfig
from lgmamba.tasks.mqar.sequences import Associations
from lgmamba.tasks.symbols import AskedSymbols, SymbolTask


class MqarTask(SymbolTask):
    """See the module."""

    config: MqarConfig

    @classmethod
    def build_model(cls, config: Any, model: ModelConfig, image_shape: tuple[int, int, int]) -> AskedSymbols:
        return AskedSymbols(model, config.lengths.max, 2 * config.keys + config.noise, config.keys)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> MqarSampler:
        return MqarSampler(self.config, rows, train, seed, full_length)

    def sequences(self, batch: Any) -> Associations:
        return Associations.of(self.config.keys, batch.keys, batch.values, batch.noise, batch.pick)

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> Associations:
        K, n, Q = self.config.keys, self.config.pairs, self.config.pairs
        sizes = [K, K, Q, Q]
        drawn = uniform_of_each(self.dataset.id_hash[rows], repeat, sum(sizes) + steps)
        keys, values, order_, within, noise = drawn.split([*sizes, steps], dim=1)
        P = n if order == "gap" else K
        found = Associations.of(
            K, distinct(keys, P), below(values, K)[:, :P], below(noise, self.config.noise), each_once(order_, within)
        )
        return found.to(self.dataset.images.device)

    def targets(self, sequences: Associations, steps: Tensor) -> Tensor:
        asked = sequences.asked(steps.expand(len(sequences), -1))
        return sequences.values.gather(1, asked.flatten(1)).view_as(asked)

    def known(self, sequences: Associations, steps: Tensor) -> Tensor:
        at = steps.expand(len(sequences), -1)
        return (sequences.known.gather(1, at - 1) > 0)[..., None].expand(-1, -1, sequences.pick.shape[1])

    @property
    def chance(self) -> float:
        return 1 / self.config.keys

"""The task `copying`: n symbols among noise are read; asked for all of them in their order, by equal markers.

The source spreads the symbols over sequences of one length. Here they stand in the first `spread` steps, and longer sequences have more
noise: with lengths fixed at L0 = `spread` it is the source's task, and beyond L0 nothing changes but the gap. The source's blank is one
symbol; `noise` may be more.

Glossary, with that of `lgmamba.tasks.base`: V symbols 0 .. V - 1 to be kept, noise above them, the marker last; n items, all asked for
at once. A sample is an id alone.
Reference: arXiv:2312.00752 (Mamba), section 4.1 and appendix E.1.
"""

from typing import Any

from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.tasks.copying.batch import CopyingSampler
from lgmamba.tasks.copying.config import CopyingConfig
from lgmamba.tasks.copying.sequences import Items
from lgmamba.tasks.draws import below, distinct, uniform_of_each
from lgmamba.tasks.symbols import AskedSymbols, SymbolTask


class CopyingTask(SymbolTask):
    """See the module."""

    config: CopyingConfig

    @classmethod
    def build_model(cls, config: Any, model: ModelConfig, image_shape: tuple[int, int, int]) -> AskedSymbols:
        return AskedSymbols(model, config.lengths.max, config.symbols + config.noise + 1, config.symbols)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> CopyingSampler:
        return CopyingSampler(self.config, rows, train, seed, full_length)

    def _of(self, noise: Tensor, items: Tensor, places: Tensor) -> Items:
        return Items.of(noise, items, places, marker=self.config.symbols + self.config.noise)

    def sequences(self, batch: Any) -> Items:
        return self._of(batch.noise, batch.items, batch.places)

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> Items:
        config = self.config
        sizes = [config.items, config.spread]
        drawn = uniform_of_each(self.dataset.id_hash[rows], repeat, sum(sizes) + steps)
        items, places, noise = drawn.split([*sizes, steps], dim=1)
        found = self._of(
            below(noise, config.noise) + config.symbols,
            below(items, config.symbols),
            distinct(places, config.items).sort(1).values + 1,
        )
        return found.to(self.dataset.images.device)

    def targets(self, sequences: Items, steps: Tensor) -> Tensor:
        return sequences.items[:, None].expand(-1, steps.shape[-1], -1)

    def known(self, sequences: Items, steps: Tensor) -> Tensor:
        return sequences.places[:, None] <= steps.expand(len(sequences), -1)[..., None]

    @property
    def chance(self) -> float:
        return 1 / self.config.symbols

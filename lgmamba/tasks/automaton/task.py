"""The task `automaton`: symbols move a finite automaton; told after each is where it stands.

Every step is a length of its own: the answer after step t is that of the word of t symbols. Whoever follows the automaton with a state
that only decays forgets where it stood; it takes transitions that turn or exchange. The sources train on lengths up to 40, from 3 on, or
with a longest length that grows; lengths here are the study's.

Glossary, with that of `lgmamba.tasks.base`: V symbols, W answers. A guess is right with c = 1 / W; errors are wrong answers over 1 - c.
A sample is an id alone.
Reference: arXiv:2207.02098 (tasks), arXiv:2509.22284 and arXiv:2603.15569, appendix D (protocols).
"""

from typing import Any, ClassVar

from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.data.dataset import Dataset
from lgmamba.tasks.automaton.batch import AutomatonSampler
from lgmamba.tasks.automaton.config import AutomatonConfig
from lgmamba.tasks.automaton.machines import machine
from lgmamba.tasks.automaton.sequences import Word
from lgmamba.tasks.draws import uniform_of_each
from lgmamba.tasks.symbols import SymbolModel, SymbolTask


class AutomatonTask(SymbolTask):
    """See the module."""

    chance_scales: ClassVar[bool] = True

    config: AutomatonConfig

    def __init__(self, config: AutomatonConfig, dataset: Dataset):
        super().__init__(config, dataset)
        self.machine = machine(config.automaton)

    @classmethod
    def build_model(cls, config: Any, model: ModelConfig, image_shape: tuple[int, int, int]) -> SymbolModel:
        return SymbolModel(model, config.lengths.max, config.symbols, config.answers)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> AutomatonSampler:
        return AutomatonSampler(self.config, rows, train, seed, full_length, self.machine)

    def sequences(self, batch: Any) -> Word:
        return Word(batch.symbol, batch.label)

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> Word:
        symbol = self.machine.symbols(uniform_of_each(self.dataset.id_hash[rows], repeat, steps))
        return Word(symbol, self.machine.run(symbol)).to(self.dataset.images.device)

    def targets(self, sequences: Word, steps: Tensor) -> Tensor:
        return sequences.label.gather(1, steps.expand(len(sequences), -1) - 1)

    @property
    def chance(self) -> float:
        return 1 / self.config.answers

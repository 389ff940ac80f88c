"""Training batches of words. Glossary: `lgmamba.tasks.automaton.task`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.config.task import TaskBase
from lgmamba.config.training import TrainConfig
from lgmamba.tasks.automaton.config import AutomatonConfig
from lgmamba.tasks.automaton.machines import Machine
from lgmamba.tasks.batch import Batch, Sampler
from lgmamba.tasks.draws import uniform


@dataclass(frozen=True, kw_only=True)
class AutomatonBatch(Batch):
    """Symbols and labels, (B, L) int64."""

    symbol: Tensor
    label: Tensor


class AutomatonSampler(Sampler[AutomatonBatch]):
    """Draws new words for every batch: nothing of the data set but its device is used."""

    batch = AutomatonBatch
    config: AutomatonConfig

    def __init__(
        self, config: TaskBase, rows: Tensor, train: TrainConfig, seed: int, full_length: bool, machine: Machine
    ):
        super().__init__(config, rows, train, seed, full_length)
        self.machine = machine.to(rows.device)

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        symbol = self.machine.symbols(uniform(generator, len(drawn), longest))
        return {"symbol": symbol, "label": self.machine.run(symbol)}

"""The task `bytes`: text is read byte by byte, and at every step the next byte is told.

Samples are windows of W bytes, (1, 1, W) in the data set. Reported is the code length of the byte after step t, mean over texts that begin
anywhere; with context it falls, and where it rises beyond L0 a model has been read further than it can be. Reading the newest L0 bytes alone
(`truncate`) is the control that any method has to beat. The sources' models, data and numbers are not here: it is the form of their
measurement, in small.

Glossary, with that of `lgmamba.tasks.base`: bits = -log2 of the probability given to the byte that came; level = 8 - bits.
Reference: perplexity by position as in arXiv:2406.14528 (DeciMamba), arXiv:2410.07145 (Stuffed Mamba), arXiv:2509.19633 (Mamba Modulation).
"""

import math
from typing import Any

import torch
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.data.dataset import Dataset
from lgmamba.tasks.base import Scores
from lgmamba.tasks.bytes.batch import BytesSampler
from lgmamba.tasks.bytes.config import BytesConfig
from lgmamba.tasks.bytes.sequences import Text
from lgmamba.tasks.draws import below, uniform_of_each
from lgmamba.tasks.symbols import SymbolModel, SymbolTask

BYTES = 256


def windows_of(dataset: Dataset) -> Tensor:
    """The text of all samples, (N, W) uint8."""
    return dataset.images[:, 0, 0]


def check_windows(dataset: Dataset, least: int) -> None:
    """Samples are windows of text of so many bytes at least.

    Raises:
        ConfigError: they are not.
    """
    C, H, W = dataset.image_shape
    if (C, H) != (1, 1) or W < least:
        raise ConfigError(
            f"samples are {C} x {H} x {W}, expected: windows of text, 1 x 1 x {least} or longer (data.source.kind text, "
            "data.source.window)"
        )


class BytesTask(SymbolTask):
    """See the module."""

    config: BytesConfig

    def __init__(self, config: BytesConfig, dataset: Dataset):
        super().__init__(config, dataset)
        check_windows(dataset, config.lengths.max + config.starts)

    @classmethod
    def build_model(cls, config: Any, model: ModelConfig, image_shape: tuple[int, int, int]) -> SymbolModel:
        return SymbolModel(model, config.lengths.max, BYTES, BYTES)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> BytesSampler:
        return BytesSampler(self.config, rows, train, seed, full_length, windows_of(self.dataset))

    def sequences(self, batch: Any) -> Text:
        return Text(batch.text[:, :-1], batch.text[:, 1:])

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> Text:
        drawn = uniform_of_each(self.dataset.id_hash[rows], repeat, 1)
        at = (below(drawn, self.config.starts) + torch.arange(steps + 1)).to(rows.device)
        text = windows_of(self.dataset)[rows[:, None], at].long()
        return Text(text[:, :-1], text[:, 1:])

    def targets(self, sequences: Text, steps: Tensor) -> Tensor:
        return sequences.following.gather(1, steps.expand(len(sequences), -1) - 1)

    @property
    def chance(self) -> float:
        return 1 / BYTES

    def errors(self, prediction: Tensor, sequences: Any, steps: Tensor) -> dict[str, Tensor]:
        """bits: code length of the byte that came, (B, S)."""
        return {"bits": self.losses(prediction, sequences, steps) / math.log(2)}

    def baselines(self, sequences: Any, steps: Tensor, ages: Tensor | None) -> dict[str, Scores]:
        """unigram: every byte as often as in the training split, each counted once more than it is there."""
        train = windows_of(self.dataset)[self.dataset.split("train")]
        counts = torch.bincount(train.flatten().int(), minlength=BYTES).double() + 1
        bits = -(counts / counts.sum()).log2()
        return {"unigram": Scores({"bits": bits[self.targets(sequences, steps)].float()})}

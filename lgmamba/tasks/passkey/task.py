"""The task `passkey`: five digits stand between <key> and </key> in a text; after step t, <key> asks for them.

An answer is right where all five digits are, each told after those before it, which is what greedy generation gives. How deep in the text
the key stands is that step over T: the orders have it in the first L0 bytes, and in the L0 bytes after two, four and eight L0, so that longer
sequences only append. Trained on keys and on the next byte of the text at once, with weights `share` and 1 - share, at lengths up to L0.

Glossary, with that of `lgmamba.tasks.bytes.task`: a guess is right once in 10^5.
Reference: the passkey task as in arXiv:2406.14528 (DeciMamba), whose models, texts and lengths are not here.
"""

from typing import Any

import torch
from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.data.dataset import Dataset
from lgmamba.model.sequences import SequenceModel
from lgmamba.model.stack import StackState
from lgmamba.tasks.bytes.task import BYTES, check_windows, windows_of
from lgmamba.tasks.draws import below, uniform_of_each
from lgmamba.tasks.passkey.batch import PasskeySampler
from lgmamba.tasks.passkey.config import DIGITS, ROOM, STARTS, PasskeyConfig
from lgmamba.tasks.passkey.sequences import KeyedText
from lgmamba.tasks.symbols import AskedSymbols, SymbolTask, nats_of


class PasskeyModel(AskedSymbols):
    """Asked by <key> and the digits before each: logits (..., 5, 256)."""

    def predict_asked(self, outputs: Tensor) -> Tensor:
        return self.predict(outputs[..., -DIGITS:, :])


class PasskeyTask(SymbolTask):
    """See the module."""

    config: PasskeyConfig

    def __init__(self, config: PasskeyConfig, dataset: Dataset):
        super().__init__(config, dataset)
        check_windows(dataset, config.lengths.max + config.starts)

    @classmethod
    def build_model(cls, config: Any, model: ModelConfig, image_shape: tuple[int, int, int]) -> PasskeyModel:
        return PasskeyModel(model, config.lengths.max, BYTES, BYTES)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> PasskeySampler:
        return PasskeySampler(self.config, rows, train, seed, full_length, windows_of(self.dataset))

    def sequences(self, batch: Any) -> KeyedText:
        return KeyedText.of(batch.text, batch.digits, batch.at)

    def loss(self, model: SequenceModel, batch: Any, state: StackState | None = None) -> Tensor:
        """Cross-entropy of a digit, weighted with `share`, and of the next byte within each sequence's length with the rest."""
        keys = super().loss(model, batch, state)
        if self.config.share == 1:
            return keys
        sequences = self.sequences(batch)
        outputs, _ = model.encode(
            model.tokens(sequences, 0, sequences.T), state, target_length=batch.told(model), want_state=False
        )
        nats = nats_of(model.predict(outputs), sequences.following)
        inside = torch.arange(1, sequences.T + 1, device=nats.device) <= batch.lengths[:, None]
        text = ((nats * inside).sum(1) / batch.lengths).mean()
        return self.config.share * keys + (1 - self.config.share) * text

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> KeyedText:
        windows, device = windows_of(self.dataset), self.dataset.images.device
        drawn = uniform_of_each(self.dataset.id_hash[rows], repeat, 2 + DIGITS)
        start = below(drawn[:, :1], self.config.starts).to(device)
        text = windows[rows[:, None], start + torch.arange(steps + 1, device=device)].long()
        most = self.L0 - ROOM + 1
        at = STARTS[order] * self.L0 + below(drawn[:, 1], most)
        return KeyedText.of(text, below(drawn[:, 2:], 10).to(device), at.to(device))

    def targets(self, sequences: KeyedText, steps: Tensor) -> Tensor:
        return sequences.digits[:, None].expand(-1, steps.shape[-1], -1)

    def known(self, sequences: KeyedText, steps: Tensor) -> Tensor:
        return (sequences.end[:, None] <= steps.expand(len(sequences), -1))[..., None].expand(-1, -1, DIGITS)

    @property
    def chance(self) -> float:
        return 10.0**-DIGITS

    def _scaled(self, wrong: Tensor) -> Tensor:
        """Whether any digit is wrong: an answer is the whole key."""
        return wrong.amax(-1)

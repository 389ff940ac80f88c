"""What tasks of symbols share: an embedding of symbols, logits of answers, cross-entropy in training, the share of wrong answers in all
that is reported.

Glossary, with that of `lgmamba.tasks.base`: V symbols that are read, W that answers are among; Q answers to a question.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.model.sequences import SequenceModel, Sequences
from lgmamba.tasks.asking import AskedModel
from lgmamba.tasks.base import Scores, Task

EMBEDDING_STD = 0.02
"""Standard deviation of the embeddings at initialisation, as of mamba_ssm's language models."""


class SymbolModel(SequenceModel):
    """Embedding of each symbol -> stack -> logits (..., W) of the answer at each step. Its sequences have `symbol`, (B, T) int64.

    Args:
        config: sizes and forms, see `ModelConfig`.
        L0: longest training length, steps.
        symbols: V.
        answers: W.
    """

    def __init__(self, config: ModelConfig, L0: int, symbols: int, answers: int):
        self.symbols, self.answers = symbols, answers
        super().__init__(config, L0)

    def build_embedding(self) -> None:
        self.embed_symbol = nn.Embedding(self.symbols, self.config.d_model)
        nn.init.normal_(self.embed_symbol.weight, std=EMBEDDING_STD)

    def build_read_out(self) -> None:
        self.read_out = nn.Linear(self.config.d_model, self.answers)

    def tokens(self, sequences: Any, start: int, stop: int) -> Tensor:
        return self.embed_symbol(sequences.symbol[:, start:stop]).to(self.dtype)

    def predict(self, outputs: Tensor) -> Tensor:
        logits = self.read_out(outputs)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class AskedSymbols(AskedModel, SymbolModel):
    """The same, asked by Q symbols: logits (..., Q, W). Its sequences have `questions_after(t)`, the symbols (B, Q) that ask."""

    def questions(self, sequences: Any, t: Tensor) -> Tensor:
        return self.embed_symbol(sequences.questions_after(t)).to(self.dtype)

    def predict_asked(self, outputs: Tensor) -> Tensor:
        return self.predict(outputs)


def nats_of(logits: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy (...), nats, of logits (..., W) and int64 answers (...)."""
    return logits.logsumexp(-1) - logits.gather(-1, answers[..., None])[..., 0]


class SymbolTask(Task):
    """Predictions are logits (B, S, ..., W), answers int64 (B, S, ...); several answers of one prediction count alike.

    Class attributes:
        chance_scales: whether errors are divided by those of a guess, as for `SCALED_ACCURACY`.
    """

    chance_scales: ClassVar[bool] = False

    @abstractmethod
    def targets(self, sequences: Any, steps: Tensor) -> Tensor:
        """Right answers (B, S, ...), below W, after steps (S,) or (B, S)."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """Share of right answers of the best guess that knows nothing of a sequence."""

    def known(self, sequences: Any, steps: Tensor) -> Tensor:
        """Whether each answer (B, S, ...) follows from what was read; by default all do."""
        return torch.ones_like(self.targets(sequences, steps), dtype=torch.bool)

    def errors(self, prediction: Tensor, sequences: Sequences, steps: Tensor) -> dict[str, Tensor]:
        """The share of wrong answers, (B, S), over that of a guess where `chance_scales`."""
        wrong = (prediction.argmax(-1) != self.targets(sequences, steps)).float()
        return {self.metrics[0].name: self._scaled(wrong)}

    def _scaled(self, wrong: Tensor) -> Tensor:
        share = wrong.reshape(*wrong.shape[:2], -1).mean(2)
        return share / (1 - self.chance) if self.chance_scales else share

    def losses(self, prediction: Tensor, sequences: Sequences, steps: Tensor) -> Tensor:
        """Cross-entropy, nats an answer."""
        nats = nats_of(prediction, self.targets(sequences, steps))
        return nats.reshape(*nats.shape[:2], -1).mean(2)

    def mean_loss(self, prediction: Tensor, sequences: Sequences, steps: Tensor) -> Tensor:
        return self.losses(prediction, sequences, steps).mean()

    def baselines(self, sequences: Sequences, steps: Tensor, ages: Tensor | None) -> dict[str, Scores]:
        """exact: what follows from what was read, and a guess elsewhere; chance: a guess. Both as they are on average."""
        guessed = torch.full_like(self.targets(sequences, steps), 1 - self.chance, dtype=torch.float32)
        exact = guessed * ~self.known(sequences, steps)
        name = self.metrics[0].name
        return {"exact": Scores({name: self._scaled(exact)}), "chance": Scores({name: self._scaled(guessed)})}

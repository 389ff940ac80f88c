"""Models of in-context regression: pairs are read as tokens; a question is read after them and leaves no trace.

Glossary: `lgmamba.tasks.regression.task`.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import gather_steps
from lgmamba.model.sequences import SequenceModel
from lgmamba.model.stack import StackState
from lgmamba.tasks.regression.sequences import Pairs


class Asked(SequenceModel):
    """A model that is asked by one more token, (x, 0), whose output answers. A body has `embed` and `answer`."""

    asks: ClassVar[bool] = True

    def embed(self, x: Tensor, y: Tensor) -> Tensor:
        """Tokens (B, L, d_model) of x (B, L, d) and y (B, L); of a question y is 0."""
        raise NotImplementedError

    def answer(self, outputs: Tensor) -> Tensor:
        """Answers (...) from the outputs (..., d_model) at questions."""
        raise NotImplementedError

    def tokens(self, sequences: Pairs, start: int, stop: int) -> Tensor:
        return self.embed(sequences.x[:, start:stop], sequences.y[:, start:stop])

    def questions(self, sequences: Pairs) -> Tensor:
        """The tokens (B, 1, d_model) that ask."""
        return self.embed(sequences.query[:, None], torch.zeros_like(sequences.answer)[:, None])

    def ask(self, state: StackState, sequences: Pairs, t: int, target_length: Tensor | None = None) -> Tensor:
        outputs, _ = self.encode(self.questions(sequences), state, target_length, want_state=False)
        return self.answer(outputs[:, 0])

    def forward(
        self,
        sequences: Pairs,
        steps: Tensor,
        target_length: Tensor | None = None,
        state: StackState | None = None,
    ) -> Tensor:
        """Answers (B, S) after some steps (B, S): a pass for each of the S, in which the question stands after that step."""
        B, S = steps.shape
        at = steps.reshape(B * S, 1)
        tokens = self.tokens(sequences, 0, sequences.T).repeat_interleave(S, dim=0)
        asked = self.questions(sequences).repeat_interleave(S, dim=0)
        t = torch.arange(sequences.T + 1, device=steps.device)
        tokens = torch.where((t == at)[..., None], asked, torch.cat([tokens, asked], dim=1))
        told = None if target_length is None else target_length.repeat_interleave(S, dim=0)
        outputs, _ = self.encode(tokens, state, told, want_state=False)
        return self.answer(gather_steps(outputs, at)[:, 0]).reshape(B, S)


class RegressionStack(Asked):
    """Linear token -> stack -> linear read-out.

    Args:
        config: sizes and forms, see `ModelConfig`.
        dim: d.
        L0: longest training length, steps.
    """

    def __init__(self, config: ModelConfig, dim: int, L0: int):
        self.dim = dim
        super().__init__(config, L0)

    def build_embedding(self) -> None:
        self.embed_pair = nn.Linear(self.dim + 1, self.config.d_model)

    def build_read_out(self) -> None:
        self.read_out = nn.Linear(self.config.d_model, 1)

    def embed(self, x: Tensor, y: Tensor) -> Tensor:
        return self.embed_pair(torch.cat([x, y[..., None]], dim=-1)).to(self.dtype)

    def answer(self, outputs: Tensor) -> Tensor:
        found = self.read_out(outputs)[..., 0]
        return found.to(torch.promote_types(found.dtype, torch.float32))

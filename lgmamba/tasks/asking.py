"""Models that are asked by further tokens, which a sequence does not hold afterwards. Glossary: `lgmamba.tasks.base`; Q question tokens."""

from typing import ClassVar

import torch
from torch import Tensor

from lgmamba.mixers.contract import gather_steps
from lgmamba.model.sequences import SequenceModel, Sequences
from lgmamba.model.stack import StackState


class AskedModel(SequenceModel):
    """After step t, Q question tokens are read from the state there, one after the other; their outputs answer.

    A model of a task has `tokens`, `questions` and `predict_asked`.
    """

    asks: ClassVar[bool] = True

    def questions(self, sequences: Sequences, t: Tensor) -> Tensor:
        """Tokens (B, Q, d) that ask after steps t (B,); without a word to the host."""
        raise NotImplementedError

    def predict_asked(self, outputs: Tensor) -> Tensor:
        """Predictions (..., *shape) from the outputs (..., Q, d) at question tokens."""
        raise NotImplementedError

    def ask(self, state: StackState, sequences: Sequences, t: int, target_length: Tensor | None = None) -> Tensor:
        after = torch.full((len(sequences),), t, device=sequences.device)
        outputs, _ = self.encode(self.questions(sequences, after), state, target_length, want_state=False)
        return self.predict_asked(outputs)

    def forward(
        self,
        sequences: Sequences,
        steps: Tensor,
        target_length: Tensor | None = None,
        state: StackState | None = None,
    ) -> Tensor:
        """Predictions (B, S, *shape) after some steps (B, S): a pass for each of the S, in which the questions stand after that step."""
        B, S = steps.shape
        after = steps.reshape(B * S, 1)
        repeated = torch.arange(B, device=steps.device).repeat_interleave(S)
        asked = self.questions(sequences[repeated], after[:, 0])
        tokens = self.tokens(sequences, 0, sequences.T).repeat_interleave(S, dim=0)
        Q = asked.shape[1]
        since = torch.arange(sequences.T + Q, device=steps.device) - after  # (B S, T + Q)
        questions = gather_steps(asked, since.clamp(0, Q - 1))  # what stands after the last of them is never looked at
        tokens = torch.cat([tokens, torch.zeros_like(asked)], dim=1)
        tokens = torch.where((since >= 0)[..., None], questions, tokens)
        target_length = None if target_length is None else target_length.repeat_interleave(S, dim=0)
        outputs, _ = self.encode(tokens, state, target_length, want_state=False)
        answers = self.predict_asked(gather_steps(outputs, after + torch.arange(Q, device=steps.device)))
        return answers.unflatten(0, (B, S))

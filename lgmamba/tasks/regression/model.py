"""Models of in-context regression: pairs are read as tokens; a question is read after them and leaves no trace.

Glossary: `lgmamba.tasks.regression.task`.
"""

import torch
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.tasks.asking import AskedModel
from lgmamba.tasks.regression.sequences import Pairs


class Asked(AskedModel):
    """A model that is asked by one more token, (x, 0), whose output answers. A body has `embed` and `answer_of`."""

    def embed(self, x: Tensor, y: Tensor) -> Tensor:
        """Tokens (B, L, d_model) of x (B, L, d) and y (B, L); of a question y is 0."""
        raise NotImplementedError

    def answer_of(self, outputs: Tensor) -> Tensor:
        """Answers (...) from the outputs (..., d_model) at questions."""
        raise NotImplementedError

    def tokens(self, sequences: Pairs, start: int, stop: int) -> Tensor:
        return self.embed(sequences.x[:, start:stop], sequences.y[:, start:stop])

    def questions(self, sequences: Pairs, t: Tensor) -> Tensor:
        return self.embed(sequences.query[:, None], torch.zeros_like(sequences.answer)[:, None])

    def predict_asked(self, outputs: Tensor) -> Tensor:
        return self.answer_of(outputs[..., 0, :])


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

    def answer_of(self, outputs: Tensor) -> Tensor:
        found = self.read_out(outputs)[..., 0]
        return found.to(torch.promote_types(found.dtype, torch.float32))

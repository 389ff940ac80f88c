"""The length as a token of its own before the first step: the length-adaptive variant of arXiv:2603.12499.

Glossary: `lgmamba.model`.
"""

import torch
from torch import Tensor, nn

from lgmamba.config.run import LengthTokenConfig


class LengthToken(nn.Module):
    """linear(1 -> d) of the length told.

    Args:
        config: what is told, and its scale.
        d_model: d.
        L0: longest training length, steps.
    """

    def __init__(self, config: LengthTokenConfig, d_model: int, L0: int):
        super().__init__()
        self.config, self.L0 = config, L0
        self.embed = nn.Linear(1, d_model)

    @property
    def reads(self) -> bool:
        """Whether the token of a trained model depends on the sequence's length."""
        return self.config.told == "own"

    def forward(self, target_length: Tensor | None, batch: int) -> Tensor:
        """Tokens (B, 1, d).

        Args:
            target_length: (B,) length at which the output will be read; may be None where the token does not depend on it.
            batch: B.
        Raises:
            ValueError: the token depends on a length and none is told.
        """
        weight = self.embed.weight
        if not (self.reads or (self.training and self.config.told == "shuffled")):
            known = self.L0 if self.config.constant is None else self.config.constant
            target_length = torch.full((batch,), known, device=weight.device)
        elif target_length is None:
            raise ValueError("this model has a length token: pass target_length, the length (B,) that it tells")
        elif self.config.beyond == "clamp":
            target_length = target_length.clamp(max=self.L0)
        return self.embed((target_length.to(weight.dtype) / self.config.scale)[:, None, None]).to(weight.dtype)

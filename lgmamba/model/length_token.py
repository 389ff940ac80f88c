"""The length as a token of its own before the first step: the length-adaptive variant of arXiv:2603.12499.

Glossary: `lgmamba.model`.
"""

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

    def forward(self, target_length: Tensor) -> Tensor:
        """Tokens (B, 1, d).

        Args:
            target_length: (B,) length that is told.
        """
        weight = self.embed.weight
        if self.config.beyond == "clamp":
            target_length = target_length.clamp(max=self.L0)
        return self.embed((target_length.to(weight.dtype) / self.config.scale)[:, None, None]).to(weight.dtype)

"""Fully connected layers with ReLU; the latent itself is linear."""

from typing import ClassVar, Literal, Self

from pydantic import Field

from lgmamba.config.base import Width
from lgmamba.tradeoff.encoders.base import EncoderBase, Shape, half


class MlpEncoder(EncoderBase):
    """Pixels -> hidden layers -> latent."""

    TITLE: ClassVar[str] = "MLP"

    kind: Literal["mlp"]
    hidden: list[Width] = Field(min_length=1, description="widths of the hidden layers")

    def build(self, shape: Shape, latent: int):
        """See `EncoderBase`."""
        from torch import nn

        from lgmamba.tradeoff.networks import mlp

        C, H, W = shape
        return nn.Sequential(nn.Flatten(), mlp([C * H * W, *self.hidden, latent]))

    def halved(self) -> Self:
        """See `EncoderBase`."""
        return self.model_copy(update={"hidden": [half(width, "hidden") for width in self.hidden]})

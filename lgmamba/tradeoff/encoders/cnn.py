"""Convolutions with max-pooling and ReLU, then one linear layer to the latent. No batch norm: see docs/tradeoff.md."""

from typing import ClassVar, Literal, Self

from pydantic import Field

from lgmamba.config.base import Positive, Width
from lgmamba.tradeoff.encoders.base import EncoderBase, Shape, half


class CnnEncoder(EncoderBase):
    """Every convolution but those on maps of `smallest` is followed by 2 x 2 max-pooling, and all by ReLU."""

    TITLE: ClassVar[str] = "CNN"

    kind: Literal["cnn"]
    channels: list[Width] = Field(min_length=1, description="channels of each convolution")
    kernel: Literal[1, 3, 5, 7] = Field(3, description="side of its kernel, pixels")
    smallest: Positive = Field(description="side of the smallest map; those are pooled no further")

    def build(self, shape: Shape, latent: int):
        """See `EncoderBase`."""
        from torch import nn

        channels, height, width = shape
        layers: list[nn.Module] = []
        for wide in self.channels:
            layers.append(nn.Conv2d(channels, wide, self.kernel, padding=self.kernel // 2))
            channels = wide
            if min(height, width) // 2 >= self.smallest:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            layers.append(nn.ReLU())  # of a maximum what it is before it, at a quarter of the work
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, latent))

    def halved(self) -> Self:
        """See `EncoderBase`."""
        return self.model_copy(update={"channels": [half(width, "channels") for width in self.channels]})

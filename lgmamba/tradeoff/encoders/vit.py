"""A vision transformer: patches as tokens with learned positions, pre-norm blocks, the mean over tokens, a linear layer."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from lgmamba.config.base import Positive, Width
from lgmamba.tradeoff.encoders.base import EncoderBase, Shape, half


class VitEncoder(EncoderBase):
    """Tokens of `width` through `depth` blocks."""

    TITLE: ClassVar[str] = "ViT"

    kind: Literal["vit"]
    patch: Positive = Field(description="side of a patch, pixels")
    width: Width = Field(description="width of a token")
    heads: Positive = Field(description="heads of attention")
    depth: Positive = Field(description="blocks")

    @model_validator(mode="after")
    def _heads_divide(self):
        if self.width % self.heads:
            raise ValueError(f"heads: found {self.heads}, expected a divisor of width, {self.width}")
        return self

    def misfit(self, shape: Shape) -> str | None:
        """See `EncoderBase`."""
        _, H, W = shape
        if H % self.patch or W % self.patch:
            return f"patch: found {self.patch}, expected a divisor of the image's sides, {H} x {W} pixels"
        return None

    def build(self, shape: Shape, latent: int):
        """See `EncoderBase`."""
        from lgmamba.tradeoff.networks import VisionTransformer

        return VisionTransformer(shape, self.patch, self.width, self.heads, self.depth, latent)

    def halved(self) -> Self:
        """See `EncoderBase`."""
        narrow = half(self.width, "width")
        return type(self).model_validate(
            self.model_dump() | {"width": narrow, "heads": self.heads if narrow % self.heads == 0 else 1}
        )

"""What makes predictions from the stack's output at one step: decoders, and a classification head on the same latent."""

from typing import Annotated, Literal

from pydantic import Field

from lgmamba.config.base import Strict, Width


class MlpDecoder(Strict):
    """Output at one step -> hidden -> all pixels."""

    kind: Literal["mlp"]
    hidden: Width = Field(description="hidden width")


class SpatialDecoder(Strict):
    """One learned query per cell, combined with the output at one step, -> the cell's pixels."""

    kind: Literal["spatial"]
    hidden: Width = Field(description="hidden width per cell")


DecoderConfig = Annotated[MlpDecoder | SpatialDecoder, Field(discriminator="kind")]


class ClassHeadConfig(Strict):
    """A classifier of the latent that the decoder reads; after arXiv:2401.09237."""

    classes: int = Field(ge=2, le=1 << 16, description="classes told apart; the labels are 0 .. classes - 1")
    hidden: list[Width] = Field([], description="widths of hidden layers; none: a linear classifier")

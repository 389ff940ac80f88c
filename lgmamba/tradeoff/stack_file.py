"""What one stack is trained with: the file that the stage `tradeoff train` reads. Imports no torch, and nothing about whole studies."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Name, Positive, Seed, Strict
from lgmamba.tradeoff.encoders import Encoder

Weight = Annotated[
    float, Field(ge=0, le=1, description="weight of classification: 0 reconstruction alone, 1 the class alone")
]
Rate = Annotated[float, Field(gt=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]

Variant = Literal["main", "raw", "split", "random_labels", "random_encoder", "doubled", "linear"]
"""main: what the frontier is made of. Controls: raw, the paper's form of the loss; split, an encoder of half the width and half
the latent for each loss; random_labels, classes that mean nothing; random_encoder, never trained; doubled, twice the steps;
linear, principal components and pixels under a linear classifier."""


class HeadsConfig(Strict):
    """Heads of the shared latent, of one form behind every encoder."""

    decoder: list[Positive] = Field(min_length=1, description="widths of the decoder's hidden layers")
    classifier: list[Positive] = Field([], description="widths of the classifier's hidden layers; none: linear")


class StackTrainConfig(Strict):
    """How every stack is trained; the same chances for all."""

    steps: Positive = Field(description="optimiser steps")
    batch_size: Positive = Field(description="images a step")
    lr: Rate = Field(description="peak learning rate of Adam, for encoder, decoder and classifier alike")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    final_lr: float = Field(ge=0, le=1, description="learning rate of the last step, as a share of the peak (cosine)")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decay rates of Adam's moments")
    log_every: Positive = Field(description="steps between two rows of the history")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto = bf16 autocast on CUDA, fp32 on a CPU"
    )
    cpu_threads: Positive = Field(1, description="torch threads on a CPU; part of the result")

    @model_validator(mode="after")
    def _warm_in_time(self):
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps: found {self.warmup_steps}, expected: fewer than steps, {self.steps}")
        return self


class HeadTrainConfig(Strict):
    """How heads are trained on frozen latents, strictly after the encoder: until the validation loss no longer falls."""

    steps: Positive = Field(description="optimiser steps, at most")
    batch_size: Positive
    lr: Rate
    check_every: Positive = Field(description="steps between two looks at the validation split")
    patience: Positive = Field(description="looks without a lower validation loss after which a head has converged")
    tolerance: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the loss by which it must fall to count as lower; steps on random batches find new lows for ever",
        exclude_if=lambda tolerance: tolerance == 0,  # files of studies without it stay what they are, to the byte
    )
    hidden: Positive = Field(64, description="hidden width of the MLP classifier that is tried beside the linear one")


class StackFile(Strict):
    """What the stage `tradeoff train` reads: one stack, that is one shape of networks, for all seeds and weights."""

    study: Name
    name: Name
    variant: Variant
    encoder_name: Name
    encoder: Encoder
    latent: Positive
    weights: list[Weight]
    seeds: list[Seed]
    heads: HeadsConfig
    train: StackTrainConfig
    probes: HeadTrainConfig
    pictures: int = Field(0, ge=0, description="test images whose reconstructions are kept")
    test_images: Positive | None
    images: str = Field(description="digest of the configuration of the images")

    @property
    def label(self) -> str:
        """For messages."""
        return f"stack {self.name} of study {self.study}"

"""How one model is trained: `train` of params.yaml and of its runs."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Positive, Strict

Decay = Annotated[float, Field(ge=0, lt=1)]


class _Passing(Strict):
    max_factor: float = Field(gt=0, le=1e6, description="most steps of the passed part, in units of L0")
    share: float = Field(gt=0, le=1, description="share of a batch's sequences that start from a passed state")

    def sequences(self, batch_size: int) -> int:
        """Sequences of a batch that start from a passed state."""
        return round(self.share * batch_size)

    def longest(self, L0: int) -> int:
        """Most steps of the passed part, patches."""
        return round(self.max_factor * L0)


class PassSameImage(_Passing):
    """The state after n more steps of the same sequence: it is one of n + T steps, read with gradient over the last T."""

    kind: Literal["same_image"]


class PassOtherImage(_Passing):
    """The state after n steps of another image, which is of no use: teaches to forget."""

    kind: Literal["other_image"]


class PassNoise(_Passing):
    """Gaussian noise with the mean and spread that each entry of the state has after n steps, over the batch."""

    kind: Literal["noise"]


StatePassingConfig = Annotated[PassSameImage | PassOtherImage | PassNoise, Field(discriminator="kind")]


def is_run_name(init_from: str) -> bool:
    """Whether `train.init_from` names a run of the study, and is no path."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", init_from) is not None


class AdamWConfig(Strict):
    """AdamW."""

    kind: Literal["adamw"]


class LambConfig(Strict):
    """LAMB: Adam's update, scaled for each tensor by the norms of its weights and of the update."""

    kind: Literal["lamb"]
    eps: float = Field(1e-6, gt=0, description="added to the root of the second moment")
    adapt: Literal["all", "decayed"] = Field(
        "all",
        description="which tensors' updates are scaled; decayed: those with weight decay, so that without any this is Adam, as in the "
        "code of arXiv:2603.12499",
    )


OptimizerConfig = Annotated[AdamWConfig | LambConfig, Field(discriminator="kind")]


class TrainConfig(Strict):
    """Optimisation: AdamW or LAMB, linear warm-up, cosine decay or none."""

    steps: Positive = Field(description="optimiser steps")
    batch_size: Positive = Field(description="images a step")
    lr: float = Field(gt=0, description="peak learning rate")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    final_lr: float = Field(ge=0, le=1, description="learning rate at the end, as a fraction of the peak")
    weight_decay: float = Field(ge=0, description="only on weight matrices")
    betas: tuple[Decay, Decay] = Field(description="decay rates of the moments")
    optimizer: OptimizerConfig = Field(
        AdamWConfig(kind="adamw"),
        exclude_if=lambda optimizer: optimizer.kind == "adamw",  # here and below: files without it stay what they are
        description="adamw | lamb",
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine",
        exclude_if=lambda schedule: schedule == "cosine",
        description="learning rate after the warm-up: cosine to final_lr, or constant",
    )
    init_from: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        exclude_if=lambda source: source is None,
        description="weights to start from, in place of random ones: name of another run of the study (the same seed), or path of a "
        "model.safetensors, in which {seed} stands for the seed",
    )
    grad_clip: float = Field(gt=0, description="largest gradient norm")
    precision: Literal["auto", "fp32", "bf16"] = Field(description="auto = bf16 autocast on CUDA, fp32 on a CPU")
    log_every: Positive = Field(description="steps between two rows of the training history")
    validate_every: Positive = Field(description="steps between two validations")
    validate_images: Positive = Field(description="validation images used, at most")
    checkpoint_every_s: float = Field(ge=0, description="seconds between two resume checkpoints; 0 = at every log step")
    cpu_threads: int = Field(
        ge=1, le=1024, description="torch threads on a CPU; part of the result, since sums are split by thread"
    )
    length_power: float = Field(
        0.0,
        ge=0,
        le=100,
        exclude_if=lambda power: power == 0,
        description="p: a sequence of T patches weighs (T / L0)^p in the loss; 0 = all the same",
    )
    class_weight: float | None = Field(
        None,
        ge=0,
        le=1,
        exclude_if=lambda weight: weight is None,
        description="w, weight of classification in what trains all but the heads: 0 the picture alone, 1 the class alone; with "
        "model.class_head only",
    )
    state_passing: StatePassingConfig | None = Field(
        default=None,
        exclude_if=lambda passing: passing is None,  # files of trainings without it stay what they are, to the byte
        description="null, or how training sequences start from states of longer ones",
    )

    @model_validator(mode="after")
    def _warmup_fits(self):
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps < steps; got {self.warmup_steps} and {self.steps}")
        return self

    @model_validator(mode="after")
    def _some_states_are_passed(self):
        passing = self.state_passing
        least = 2 if isinstance(passing, PassNoise) else 1  # a spread needs two
        if passing is not None and passing.sequences(self.batch_size) < least:
            raise ValueError(
                f"state_passing.share x batch_size >= {least} with kind {passing.kind}; got {passing.share} x {self.batch_size}"
            )
        return self

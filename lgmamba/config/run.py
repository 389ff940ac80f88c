"""What one training run is: task, model, optimisation. `RunConfig` is the only thing that the training stage reads."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Strict
from lgmamba.config.lengths import LengthConfig

OrderName = Literal["permutation", "cycle", "replacement", "raster", "snake", "hilbert"]
ScanBackend = Literal["auto", "reference", "cpu", "cpu_numba", "cuda", "mamba_ssm"]
Positive = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class SuperviseLast(Strict):
    """Loss on the reconstruction after the last patch."""

    kind: Literal["last"]


class SuperviseRandom(Strict):
    """Loss on k steps drawn uniformly, with replacement, from 1..T for each sample."""

    kind: Literal["random_k"]
    k: Positive


class SuperviseAll(Strict):
    """Loss on every step from 1 to T, averaged within a sample first, so that each sample weighs the same."""

    kind: Literal["all"]


SupervisionConfig = Annotated[SuperviseLast | SuperviseRandom | SuperviseAll, Field(discriminator="kind")]


class TaskConfig(Strict):
    """How an image becomes a sequence, and where the loss is."""

    patch_size: Positive = Field(description="patch side, pixels; divides the image's height and width")
    order: OrderName = Field(description="visiting order of the cells in training")
    lengths: LengthConfig
    supervision: SupervisionConfig


class MambaConfig(Strict):
    """The sequence mixer: Mamba-1, with mamba_ssm's names."""

    kind: Literal["mamba"]
    d_state: int = Field(ge=1, le=256, description="state size N")
    d_conv: int = Field(ge=1, le=16, description="width of the short convolution, steps")
    expand: float = Field(gt=0, description="inner width / model width")
    dt_rank: Positive | Literal["auto"] = Field(
        description="rank of the step-size projection; auto = ceil(d_model / 16)"
    )
    dt_min: float = Field(gt=0, description="smallest step size at initialisation")
    dt_max: float = Field(gt=0, description="largest step size at initialisation")

    @model_validator(mode="after")
    def _ordered(self):
        if self.dt_min >= self.dt_max:
            raise ValueError(f"dt_min < dt_max; got {self.dt_min}, {self.dt_max}")
        return self


class MlpDecoder(Strict):
    """Output at one step -> hidden -> all pixels."""

    kind: Literal["mlp"]
    hidden: Positive = Field(description="hidden width")


class SpatialDecoder(Strict):
    """One learned query per cell, combined with the output at one step, -> the cell's pixels."""

    kind: Literal["spatial"]
    hidden: Positive = Field(description="hidden width per cell")


DecoderConfig = Annotated[MlpDecoder | SpatialDecoder, Field(discriminator="kind")]


class AdaptiveConfig(Strict):
    """Length-adaptive conditioning: every layer is told the length T at which the output will be read."""

    kind: Literal["dt_bias", "film", "both"] = Field(
        description="what is conditioned: step sizes, the block's input and output, or both"
    )
    features: Literal["T", "T_and_t"] = Field(
        description="told log T alone, or log T and the fraction t/T already read"
    )
    hidden: Positive = Field(description="width of the conditioning network")
    beyond: Literal["extrapolate", "clamp", "rescale"] = Field(
        description="for T > L0: features as they come | held at T = L0 and t/T <= 1 | held, and step sizes times L0 / T"
    )


class ModelConfig(Strict):
    """The reconstruction model."""

    d_model: Positive = Field(description="model width")
    n_layer: Positive = Field(description="number of blocks")
    mixer: MambaConfig
    position: Literal["absolute", "relative_move"] = Field(
        description="learned embedding of the cell, or code of the move since the last patch"
    )
    decoder: DecoderConfig
    adaptive: AdaptiveConfig | None
    scan_backend: ScanBackend = Field(description="backend of selective_scan; auto = the best one on the device")

    @model_validator(mode="after")
    def _not_empty(self):
        if self.d_inner < 1:
            raise ValueError(f"mixer.expand x d_model >= 1, the inner width; got {self.mixer.expand} x {self.d_model}")
        return self

    @property
    def d_inner(self) -> int:
        return int(self.mixer.expand * self.d_model)

    @property
    def dt_rank(self) -> int:
        return math.ceil(self.d_model / 16) if self.mixer.dt_rank == "auto" else self.mixer.dt_rank


class TrainConfig(Strict):
    """Optimisation: AdamW, linear warm-up, cosine decay."""

    steps: Positive = Field(description="optimiser steps")
    batch_size: Positive = Field(description="images a step")
    lr: float = Field(gt=0, description="peak learning rate")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    final_lr: float = Field(ge=0, le=1, description="learning rate at the end, as a fraction of the peak")
    weight_decay: float = Field(ge=0, description="AdamW, only on weight matrices")
    betas: tuple[Decay, Decay] = Field(description="AdamW moments")
    grad_clip: float = Field(gt=0, description="largest gradient norm")
    precision: Literal["auto", "fp32", "bf16"] = Field(description="auto = bf16 autocast on CUDA, fp32 on a CPU")
    log_every: Positive = Field(description="steps between two rows of the training history")
    validate_every: Positive = Field(description="steps between two validations")
    validate_images: Positive = Field(description="validation images used, at most")
    checkpoint_every_s: float = Field(ge=0, description="seconds between two resume checkpoints; 0 = at every log step")
    cpu_threads: Positive = Field(
        description="torch threads on a CPU; part of the result, since sums are split by thread"
    )

    @model_validator(mode="after")
    def _warmup_fits(self):
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps < steps; got {self.warmup_steps} and {self.steps}")
        return self


class RunConfig(Strict):
    """One training: a named entry of `runs:` with one seed. Written to run.json, and stored beside the checkpoint."""

    study: str
    run: str
    seed: int
    task: TaskConfig
    model: ModelConfig
    train: TrainConfig

    @property
    def L0(self) -> int:
        """Training length: the longest length that the run was trained on, in patches."""
        return self.task.lengths.max

"""What one training run is: task, model, optimisation. `RunConfig` is the only thing that the training stage reads."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import LONGEST, Multiple, Name, Positive, Seed, Strict, Width
from lgmamba.config.heads import ClassHeadConfig, DecoderConfig
from lgmamba.mixers.configs import MixerConfig
from lgmamba.tasks.configs import TaskConfig

ScanBackend = Literal["auto", "reference", "cpu", "cpu_numba", "cuda", "mamba_ssm"]
Decay = Annotated[float, Field(ge=0, lt=1)]


class AdaptiveConfig(Strict):
    """Length-adaptive conditioning: every layer is told the length T at which the output will be read."""

    kind: Literal["dt_bias", "film", "both", "film_readout"] = Field(
        description="what is conditioned: step sizes, each block's input and output, both of these, or blocks and the read-out"
    )
    features: Literal["T", "T_and_t"] = Field(
        description="told log T alone, or log T and the fraction t/T already read"
    )
    hidden: Width = Field(description="width of the conditioning network")
    beyond: Literal["extrapolate", "clamp", "rescale"] = Field(
        description="for T > L0: features as they come | held at T = L0 and t/T <= 1 | held, and step sizes times L0 / T"
    )
    slowest: Multiple | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="with rescale: at most so many times slower than in training; of longer sequences the last slowest x L0 steps are read",
    )

    code: Literal["plain", "normalised"] = Field(
        "plain",
        exclude_if=lambda code: code == "plain",  # files of trainings without it stay what they are, to the byte
        description="what each block's head reads: the conditioning network's output as it is, or centred and of one size",
    )

    @model_validator(mode="after")
    def _slowest_fits(self):
        if self.slowest is not None and self.beyond != "rescale":
            raise ValueError(f"slowest only with beyond: rescale; got beyond: {self.beyond}, slowest: {self.slowest}")
        return self


class LengthTokenConfig(Strict):
    """The length T at which the output will be read as a token before the first step: linear(1 -> d) of T / scale."""

    kind: Literal["length_token"]
    told: Literal["own", "shuffled", "constant"] = Field(
        "own",
        description="own: the sequence's length | controls: shuffled: in training that of another sequence, afterwards L0 | constant",
    )
    constant: Positive | None = Field(None, description="the length told with told: constant, steps")
    scale: float = Field(100.0, gt=0, description="steps that become 1")
    beyond: Literal["extrapolate", "clamp"] = Field("extrapolate", description="for T > L0: told as it is | told L0")

    @model_validator(mode="after")
    def _constant_fits(self):
        if (self.told == "constant") != (self.constant is not None):
            raise ValueError(
                f"constant, a length, with told: constant only; got told: {self.told}, constant: {self.constant}"
            )
        return self


Adaptive = Annotated[AdaptiveConfig | LengthTokenConfig, Field(discriminator="kind")]


class ModelConfig(Strict):
    """The model: a stack of blocks, and for some tasks the form of its ends."""

    d_model: Width = Field(description="model width")
    n_layer: int = Field(ge=1, le=1000, description="number of blocks")
    mixer: MixerConfig
    position: Literal["absolute", "relative_move"] | None = Field(
        None,
        exclude_if=lambda position: position is None,
        description="draw: learned embedding of the cell, or code of the move since the last patch; null for other tasks",
    )
    decoder: DecoderConfig | None = Field(
        None,
        exclude_if=lambda decoder: decoder is None,
        description="draw: from the output at one step to the image; null for other tasks",
    )
    latent: Width | None = Field(
        None,
        exclude_if=lambda latent: (
            latent is None
        ),  # here and below: files of runs without it stay what they are, to the byte
        description="m, width of a linear layer between the output at one step and what reads it; null: there is none",
    )
    class_head: ClassHeadConfig | None = Field(
        None,
        exclude_if=lambda head: head is None,
        description="a classifier beside the decoder, on the same latent; null: there is none",
    )
    adaptive: Adaptive | None
    init_gamma: float | None = Field(
        None,
        ge=0,
        le=4,
        exclude_if=lambda gamma: gamma is None,
        description="γ: matrices of linear layers and embeddings start normal with standard deviation (inputs)^-γ; null: as each layer's own",
    )
    scan_backend: ScanBackend = Field(description="backend of selective_scan; auto = the best one on the device")

    @model_validator(mode="after")
    def _mixer_fits(self):
        if self.channels < 1:
            raise ValueError(
                f"mixer.expand x d_model >= 1, the inner width; got {getattr(self.mixer, 'expand', 1)} x {self.d_model}"
            )
        if problem := self.mixer.problem(self):
            raise ValueError(problem)
        if self.adaptive is None or self.adaptive.kind == "length_token":
            return self
        if self.adaptive.kind in ("dt_bias", "both") and not self.mixer.OFFSETS:
            raise ValueError(
                f"adaptive.kind: found {self.adaptive.kind}, but mixer {self.mixer.kind} has no step sizes to be offset; expected film "
                "or film_readout"
            )
        if self.adaptive.beyond == "rescale" and (reason := self.mixer.refusal(["slow"])):
            raise ValueError(
                f"adaptive.beyond: found rescale, but mixer {self.mixer.kind} has {reason}; expected extrapolate or clamp"
            )
        return self

    @property
    def channels(self) -> int:
        """Channels of a mixer's memory; Mamba's inner width D."""
        return self.mixer.channels(self)

    @property
    def modes(self) -> int:
        """Modes of each channel; Mamba's N."""
        return self.mixer.modes(self)


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


def weights_path(run: "RunConfig", out: Path) -> Path | None:
    """Where the weights lie that a training starts from (`train.init_from`); None where it starts from random ones.

    Args:
        out: the training's own folder of results, beside which other runs of the study have theirs.
    """
    source = run.train.init_from
    if source is None:
        return None
    if is_run_name(source):
        return out.parents[2] / source / f"seed{run.seed}" / "train" / "model.safetensors"
    return Path(source.replace("{seed}", str(run.seed)))


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


class RunConfig(Strict):
    """One training: a named entry of `runs:` with one seed. Written to run.json, and stored beside the checkpoint."""

    study: Name
    run: Name
    seed: Seed
    images: str | None = Field(None, description="digest of the configuration of the images; null: any images will do")
    task: TaskConfig
    model: ModelConfig
    train: TrainConfig

    @model_validator(mode="after")
    def _ends_fit(self):
        for key in ("position", "decoder"):
            found, used = getattr(self.model, key), key in self.task.ENDS
            if used and found is None:
                raise ValueError(f"model.{key}: found null, expected: a value, which task {self.task.kind} needs")
            if found is not None and not used:
                raise ValueError(f"model.{key}: expected: null, since task {self.task.kind} has ends of its own")
        return self

    @model_validator(mode="after")
    def _class_head_fits(self):
        for key in ("latent", "class_head"):
            if getattr(self.model, key) is not None and not self.task.CLASSES:
                raise ValueError(
                    f"model.{key}: expected: null for task {self.task.kind}, which reads no images with classes"
                )
        w = self.train.class_weight
        if self.model.class_head is None and w is not None:
            raise ValueError(f"train.class_weight: found {w}, expected: null without model.class_head")
        if self.model.class_head is not None and w is None:
            raise ValueError("train.class_weight: found null, expected: 0 to 1 with model.class_head")
        return self

    @model_validator(mode="after")
    def _width_fits(self):
        (least, unit), found = self.task.model_width, self.model.d_model
        if found < least or found % unit:
            expected = f"at least {least}" if unit == 1 else f"a multiple of {unit}"
            raise ValueError(
                f"model.d_model: found {found}, expected: {expected}, for the positions of task {self.task.kind}"
            )
        return self

    @model_validator(mode="after")
    def _mixer_answers(self):
        if self.model.mixer.ANSWERS and not self.task.ASKS:
            raise ValueError(
                f"model.mixer.kind: found {self.model.mixer.kind}, expected: another for task {self.task.kind}, since it reads all steps at "
                "once and has outputs for queries alone"
            )
        return self

    @model_validator(mode="after")
    def _conditioning_fits(self):
        adaptive, able = self.model.adaptive, self.task.CONDITIONING
        if adaptive is not None and able is not None and adaptive.kind not in able:
            raise ValueError(
                f"model.adaptive.kind: found {adaptive.kind}, expected: {' or '.join(sorted(able))} for task {self.task.kind}"
            )
        return self

    @model_validator(mode="after")
    def _state_passing_fits(self):
        passing = self.train.state_passing
        if passing is None:
            return self
        if not self.task.PASSES_STATES:
            raise ValueError(
                f"train.state_passing: found {passing.kind}, expected: null for task {self.task.kind}, which passes no states"
            )
        if (why := self.model.mixer.why_no_passing) is not None:
            raise ValueError(
                f"train.state_passing: found {passing.kind}, expected: null with mixer {self.model.mixer.kind}, {why}"
            )
        if self.model.adaptive is not None:
            # Told T without the passed part, it would never hear of the lengths at which it is then read; told n + T, it
            # would be one that was trained at these lengths, and its L0 another.
            raise ValueError(
                f"train.state_passing: found {passing.kind}, expected: null for a length-adaptive model (model.adaptive is set)"
            )
        if passing.longest(self.L0) < 1:
            raise ValueError(
                f"train.state_passing: expected: max_factor x L0 >= 1 step; got {passing.max_factor} x {self.L0}"
            )
        if passing.longest(self.L0) > LONGEST:
            raise ValueError(
                f"train.state_passing: expected: max_factor x L0 of at most {LONGEST:,} steps; got {passing.max_factor} x {self.L0}"
            )
        return self

    @property
    def L0(self) -> int:
        """Training length: the longest length that the run was trained on, in steps."""
        return self.task.lengths.max

"""What one training run is: task, model, optimisation. `RunConfig` is the only thing that the training stage reads."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import LONGEST, Multiple, Name, Positive, Seed, Strict, Width, in_yaml
from lgmamba.config.heads import ClassHeadConfig, DecoderConfig
from lgmamba.config.training import TrainConfig, is_run_name
from lgmamba.mixers.configs import MixerConfig
from lgmamba.tasks.configs import TaskConfig

Told = Literal["own", "shuffled", "constant"]
TOLD = "own: the sequence's length | controls: shuffled: in training that of another sequence, afterwards L0 | constant"
CONSTANT = "the length told with told: constant, steps"
ScanBackend = Literal["auto", "reference", "cpu", "cpu_numba", "cuda", "mamba_ssm", "fla"]


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
    told: Told = Field("own", exclude_if=lambda told: told == "own", description=TOLD)
    constant: Positive | None = Field(None, exclude_if=lambda value: value is None, description=CONSTANT)

    @model_validator(mode="after")
    def _slowest_fits(self):
        _check_told(self.told, self.constant)
        if self.slowest is not None and self.beyond != "rescale":
            raise ValueError(f"slowest only with beyond: rescale; got beyond: {self.beyond}, slowest: {self.slowest}")
        return self


class LengthTokenConfig(Strict):
    """The length T at which the output will be read as a token before the first step: linear(1 -> d) of T / scale."""

    kind: Literal["length_token"]
    told: Told = Field("own", description=TOLD)
    constant: Positive | None = Field(None, description=CONSTANT)
    scale: float = Field(100.0, gt=0, description="steps that become 1")
    beyond: Literal["extrapolate", "clamp"] = Field("extrapolate", description="for T > L0: told as it is | told L0")

    @model_validator(mode="after")
    def _constant_fits(self):
        _check_told(self.told, self.constant)
        return self


def _check_told(told: Told, constant: int | None) -> None:
    if (told == "constant") != (constant is not None):
        raise ValueError(
            f"constant, a length, with told: constant only; got told: {told}, constant: {in_yaml(constant)}"
        )


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
    scan_backend: ScanBackend = Field(
        description="backend of selective_scan; auto = the best one on the device; fla: flash-linear-attention's kernels, for mixers that have one"
    )

    @model_validator(mode="after")
    def _mixer_fits(self):
        if self.channels < 1:
            raise ValueError(
                f"mixer.expand x d_model >= 1, the inner width; got {getattr(self.mixer, 'expand', 1)} x {self.d_model}"
            )
        if problem := self.mixer.problem(self):
            raise ValueError(problem)
        if self.scan_backend == "fla" and (reason := self.mixer.why_no_fla(self)):
            raise ValueError(f"scan_backend: found fla, but mixer {self.mixer.kind}: {reason}; expected auto")
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

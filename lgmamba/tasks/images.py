"""What tasks share that draw images and may name their class: the two ends of the model, the losses, and how predictions are judged.

Glossary: `lgmamba.tasks.base`, `lgmamba.tasks.class_head`; d width of the stack's outputs.
"""

from abc import abstractmethod
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from lgmamba.config.base import ConfigError
from lgmamba.config.training import TrainConfig
from lgmamba.data.labels import label_problem, number_problem
from lgmamba.metrics import ACCURACY, PIXELS
from lgmamba.model.sequences import SequenceModel
from lgmamba.model.stack import StackState
from lgmamba.tasks.base import Judge, Scores, Task
from lgmamba.tasks.batch import Batch, Sampler
from lgmamba.tasks.class_head import ClassHead, gradient_times, parted

AT_INITIALISATION = 512
"""Sequences, at least, over which the losses before the first step are means."""


class ImageSequences(Protocol):
    """Sequences of images: what is to be drawn, (B, C, H, W) in [0, 1], and classes (B,) int64, None where nobody asks for them."""

    @property
    def targets(self) -> Any: ...

    @property
    def labels(self) -> Tensor | None: ...


class ImageModel(SequenceModel):
    """A sequence model that draws images: outputs (..., d) -> latents z (..., m) -> decoder, and a class head where there is one.

    Without `model.latent` z is the output itself.
    """

    latent: nn.Linear | None
    class_head: ClassHead | None

    def build_read_out(self) -> None:
        m, head = self.config.latent, self.config.class_head
        if m is not None and m > prod(self.shape):
            raise ValueError(f"model.latent: found {m}, expected: at most the {prod(self.shape):,} numbers of an image")
        width = self.config.d_model if m is None else m
        self.latent = None if m is None else nn.Linear(self.config.d_model, m)
        self.decoder = self.build_decoder(width)
        self.class_head = None if head is None else ClassHead(head, width)

    @abstractmethod
    def build_decoder(self, width: int) -> nn.Module:
        """What draws from latents of this width."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """What is drawn of latents (..., m), float32 (float64 in a float64 model)."""

    def latents(self, outputs: Tensor) -> Tensor:
        """(..., d) -> (..., m)."""
        return outputs if self.latent is None else self.latent(outputs)

    @abstractmethod
    def for_read_out(self, output: Tensor, state: StackState) -> Tensor:
        """All latents that the picture after a step is decoded from, (B, F), from output (B, d) and state there; neither is changed."""

    def for_heads(self, outputs: Tensor, class_weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Latents of outputs (B, ..., d), as the decoder and as the class head read them in training.

        What comes back to the outputs is (1 - w) times the gradient of the one and w times that of the other.

        Args:
            class_weights: w (B,); needed with a class head alone.
        """
        z = self.latents(outputs)
        if self.class_head is None:
            return z, None
        assert class_weights is not None  # train.class_weight is set where model.class_head is
        return gradient_times(z, 1 - class_weights), gradient_times(z, class_weights)


class ImageTask(Task):
    """A task whose predictions are pictures, with scores of classes where the model has a class head."""

    # Training

    @abstractmethod
    def head_losses(self, model: ImageModel, batch: Batch, state: StackState | None = None) -> list[Tensor]:
        """Error of the picture, and with a class head that of the class, each (); arguments as of `loss`."""

    def loss(self, model: SequenceModel, batch: Batch, state: StackState | None = None) -> Tensor:
        """That of `Task.loss`; with a class head the sum of both errors, each divided by its value before the first step."""
        model = cast(ImageModel, model)
        losses = self.head_losses(model, batch, state)
        if model.class_head is None:
            return losses[0]
        return (torch.stack(losses) / model.class_head.initial_losses).sum()

    def before_training(self, model: SequenceModel, sampler: Sampler) -> None:
        """Look at the classes, and set what the losses are divided by: their values now, on the batches of the first steps.

        Raises:
            ConfigError: the training images do not have the classes that the head tells apart.
        """
        model = cast(ImageModel, model)
        if model.class_head is None:
            return
        self._check_classes(model)
        batches = -(-AT_INITIALISATION // sampler.train.batch_size)
        with torch.no_grad():
            found = [torch.stack(self.head_losses(model, sampler.draw(step))) for step in range(batches)]
            model.class_head.initial_losses.copy_(torch.stack(found).mean(0))

    def _check_classes(self, model: ImageModel) -> None:
        assert model.config.class_head is not None
        classes, labels = self.dataset.n_classes, self.labels(self.dataset.split("train"))
        problem = number_problem(classes, model.config.class_head.classes, "the images")
        problem = problem or label_problem(labels.cpu().numpy(), classes, "split train")
        if problem is not None:
            raise ConfigError(problem)

    def labels(self, rows: Tensor) -> Tensor:
        """Classes of some samples, (B,) int64."""
        return self.dataset.labels[rows]

    # How predictions are judged

    def errors(self, prediction: Tensor, sequences: ImageSequences, steps: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """mse: mean squared error over pixels; with a class head also error_rate, 1 for another class than the sample's and else 0, and
        cross_entropy in nats; each (B, S).
        """
        pictures, _ = parted(prediction, self.dataset.image_shape)
        mse = (pictures - sequences.targets[:, None]).square().flatten(2).mean(2)
        return {PIXELS.name: mse} | self.class_errors(prediction, sequences)

    def class_errors(self, prediction: Tensor, sequences: ImageSequences) -> dict[str, Tensor]:
        """What `errors` says of the class; nothing where a prediction holds none."""
        _, scores = parted(prediction, self.dataset.image_shape)
        if scores is None or sequences.labels is None:
            return {}
        wrong = (scores.argmax(-1) != sequences.labels[:, None]).to(scores.dtype)
        return {ACCURACY.name: wrong, "cross_entropy": cross_entropy(scores, sequences.labels)}

    def mean_error(self, prediction: Tensor, sequences: ImageSequences, steps: Tensor, wide: bool = False) -> Tensor:  # type: ignore[override]
        pictures, _ = parted(prediction, self.dataset.image_shape)
        differences = pictures - sequences.targets[:, None]
        return (differences.double() if wide else differences).square().mean()

    def scores(self, prediction: Tensor, sequences: ImageSequences, steps: Tensor) -> Scores:  # type: ignore[override]
        parts = self.parts(prediction, sequences)  # type: ignore[arg-type]  # sequences of this very task
        assert parts is not None  # images have some
        return Scores({PIXELS.name: parts.mean(2)} | self.class_errors(prediction, sequences), parts)

    def judge(self, model: SequenceModel, train: TrainConfig) -> Judge:
        model = cast(ImageModel, model)
        if model.class_head is None or train.class_weight is None:
            return self
        return _Weighed(self, train.class_weight, model.class_head.initial_losses)

    def commonest_class(self, sequences: ImageSequences, steps: Tensor) -> dict[str, Tensor]:
        """error_rate (B, S) of naming the commonest class of the training split; nothing where classes are not known."""
        if sequences.labels is None:
            return {}
        commonest = self.labels(self.dataset.split("train")).bincount().argmax()
        wrong = (sequences.labels != commonest).float()
        return {ACCURACY.name: wrong[:, None].expand(-1, len(steps))}

    def picture(self, prediction: Tensor) -> Tensor:
        """The pictures (..., C, H, W) of predictions."""
        return parted(prediction, self.dataset.image_shape)[0]


@dataclass(frozen=True)
class _Weighed:
    """What all but the heads was trained on: (1 - w) MSE / MSE_0 + w CE / CE_0."""

    task: ImageTask
    class_weight: float
    initial_losses: Tensor

    def mean_loss(self, prediction: Tensor, sequences: ImageSequences, steps: Tensor) -> Tensor:
        errors, w = self.task.errors(prediction, sequences, steps), self.class_weight
        mse, ce = (
            errors[name].mean() / v for name, v in zip(("mse", "cross_entropy"), self.initial_losses, strict=True)
        )
        return (1 - w) * mse + w * ce


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats, (B, S), of scores (B, S, K) for classes (B,)."""
    wanted = labels[:, None, None].expand(-1, scores.shape[1], 1)
    return -scores.log_softmax(-1).gather(-1, wanted).squeeze(-1)

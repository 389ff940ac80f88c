"""What a task is. Everything else of the project knows tasks by this contract alone.

Glossary, for every file of this package

    B, T, S       samples (sequences), steps of a sequence, steps looked at; steps are counted from 1
    P             parts of the target that are tied to steps, such as the cells of an image
    K             values of a part
    row, id hash  position of a sample in the data set; hash of its id, by which everything held out about it is drawn
    order         name of a way in which held-out sequences are drawn (for images: the visiting order)
    prediction    what a model says at some steps, (B, S, *shape)
    L0            longest training length, steps

A task knows data and how predictions are judged, but no trained model: it builds an untrained one, and gives every other method
what that returned. All randomness is a pure function of (seed, step) in training and of (id hash, repeat) afterwards.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.config.task import TaskBase
from lgmamba.config.training import TrainConfig
from lgmamba.data.dataset import Dataset
from lgmamba.metrics import Metric
from lgmamba.model.sequences import SequenceModel, Sequences
from lgmamba.model.stack import StackState
from lgmamba.tasks.batch import Batch, PassedPart, Sampler


@dataclass(frozen=True)
class Scores:
    """How predictions, or what a baseline gives in their place, are judged.

    Attributes:
        values: metric -> (B, S): those of the task, then others, such as `error_rate` where a class is named.
        parts: (B, S, P) the first metric of each part, or None; the mean over parts is the sample's value.
    """

    values: dict[str, Tensor]
    parts: Tensor | None = None


class Judge(Protocol):
    """What says how wrong predictions are, as one number."""

    def mean_loss(self, prediction: Tensor, sequences: Any, steps: Tensor) -> Tensor:
        """As `Task.mean_loss`."""


class Details(ABC):
    """Errors that only a task knows how to look at, summed up batch by batch, and written as a frame of their own.

    Class attributes:
        name: of the frame; one of the configuration's DETAILS.
    """

    name: ClassVar[str]

    @abstractmethod
    def add(self, model: SequenceModel, id_hash: Tensor, sequences: Sequences, steps: list[int], chunk: int) -> None:
        """Look at some samples, of id hashes (B,), read at most `chunk` steps at a time."""

    @abstractmethod
    def columns(self) -> dict[str, list[Any]]:
        """The frame's columns, all of one length."""


class Task(ABC):
    """A task on one data set. Built by `lgmamba.tasks.registry.build_task`.

    Args:
        config: the section `task:` of a run.
        dataset: samples (or ids of samples that the task makes itself), split into train, calib, val and test.
    Raises:
        ConfigError: the data do not fit the configuration.

    Class attributes:
        appends: whether the first t steps of a longer sequence are the shorter one, so that stream mode means something.
    """

    appends: ClassVar[bool] = True

    def __init__(self, config: TaskBase, dataset: Dataset):
        self.config, self.dataset = config, dataset

    @property
    def name(self) -> str:
        return self.config.kind

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The first is primary."""
        return self.config.METRICS

    @property
    def L0(self) -> int:
        """Longest training length, steps."""
        return self.config.lengths.max

    # Models and training

    @classmethod
    @abstractmethod
    def build_model(cls, config: TaskBase, model: ModelConfig, image_shape: tuple[int, int, int]) -> SequenceModel:
        """The untrained model, on the CPU; its weights are drawn from torch's global generator.

        Args:
            image_shape: (C, H, W), pixels; zeros where the data set holds no images. All that a model needs of a data set.
        Raises:
            ValueError: the images do not fit the configuration.
        """

    @abstractmethod
    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> Sampler:
        """Draws training batches from some samples; arguments as of `Sampler`."""

    @abstractmethod
    def sequences(self, batch: Batch) -> Sequences:
        """What the model reads of a batch, as tensors on the batch's device: no host synchronisation, so that it can be recorded."""

    def passed(self, part: PassedPart) -> Sequences | None:
        """What the model reads before a batch's first sequences; None where that is nothing. Only where the task PASSES_STATES."""
        raise NotImplementedError(f"task {self.name} passes no states")

    def loss(self, model: SequenceModel, batch: Batch, state: StackState | None = None) -> Tensor:
        """The training loss, (): mean over sequences of the weighted errors at the supervised steps.

        A function of the model's weights and the batch's tensors alone, without host synchronisation and, with batches of full
        length, without shapes that depend on values: it can be recorded as a CUDA graph, and mapped over stacked weights and
        batches (`torch.func.vmap`).

        Args:
            state: that the sequences start from, see `lgmamba.train.passing`.
        """
        sequences = self.sequences(batch)
        prediction = model(sequences, batch.steps, batch.told(model), state)
        return (self.losses(prediction, sequences, batch.steps) * batch.weights).sum(1).mean()

    def losses(self, prediction: Tensor, sequences: Sequences, steps: Tensor) -> Tensor:
        """What training lowers, of every prediction: (B, S), with a gradient; arguments as of `errors`.

        The primary error, unless that has no gradient, as the rate of wrong answers has none.
        """
        return self.errors(prediction, sequences, steps)[self.metrics[0].name]

    def before_training(self, model: SequenceModel, sampler: Sampler) -> None:
        """What an untrained model needs to know of the data before its first step; a resumed training has it in its weights.

        Raises:
            ConfigError: the data do not fit the model.
        """
        return

    # Held-out sequences, and how predictions are judged

    @abstractmethod
    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> Sequences:
        """Sequences of some samples, on the data set's device: a pure function of (id hash, order, repeat); longer ones only append.

        Args:
            rows: (B,) int64.
            order: one of the configuration's ORDERS.
            repeat: number of the sequence, from 0, where a sample is read several times.
            steps: T.
        """

    @abstractmethod
    def errors(self, prediction: Tensor, sequences: Sequences, steps: Tensor) -> dict[str, Tensor]:
        """Every metric of every prediction.

        Args:
            prediction: (B, S, *shape).
            steps: (S,) or (B, S) int64, at which it was made.
        Returns:
            metric -> (B, S).
        """

    def mean_error(self, prediction: Tensor, sequences: Sequences, steps: Tensor, wide: bool = False) -> Tensor:
        """The primary metric, mean over sequences and steps, ().

        Args:
            prediction, sequences, steps: as of `errors`.
            wide: whether the mean is taken in float64, for a number to be reported.
        """
        errors = self.errors(prediction, sequences, steps)[self.metrics[0].name]
        return (errors.double() if wide else errors).mean()

    def mean_loss(self, prediction: Tensor, sequences: Sequences, steps: Tensor) -> Tensor:
        """What calibration lowers, (): as `losses`, mean over sequences and steps."""
        return self.mean_error(prediction, sequences, steps)

    def judge(self, model: SequenceModel, train: TrainConfig) -> Judge:
        """What calibrates a trained model: the task itself, unless the model was trained for more than its primary error."""
        return self

    def baselines(self, sequences: Sequences, steps: Tensor, ages: Tensor | None) -> dict[str, Scores]:
        """What anyone could predict without the model: name -> how that is judged at some steps (S,).

        Among them the configuration's NULL and ORACLE.

        Args:
            ages: what `ages` gives for them.
        """
        return {}

    # Parts of the target that are tied to steps, for retention; all three or none

    def parts(self, prediction: Tensor, sequences: Sequences) -> Tensor | None:
        """The primary metric of each part, (B, S, P); None where parts are not tied to steps."""
        return None

    def ages(self, sequences: Sequences, steps: Tensor) -> Tensor | None:
        """Steps since each part was last shown, (B, S, P) int64: 0 at the step itself, -1 for a part never shown."""
        return None

    def scores(self, prediction: Tensor, sequences: Sequences, steps: Tensor) -> Scores:
        """How predictions are judged, with parts where there are any; arguments as of `errors`."""
        parts = self.parts(prediction, sequences)
        if parts is None:
            return Scores(self.errors(prediction, sequences, steps))
        values = {self.metrics[0].name: parts.mean(2)}
        if len(self.metrics) > 1:
            values = self.errors(prediction, sequences, steps) | values
        return Scores(values, parts)

    def details(self) -> Details | None:
        """What else is looked at in a trained model; None where the errors say it all."""
        return None

    # Pictures

    def picture(self, prediction: Tensor) -> Tensor:
        """What is drawn of a prediction, for tasks with images: the prediction itself, unless it holds more."""
        return prediction

    def pictures(self, rows: Tensor, sequences: Sequences) -> dict[str, Tensor] | None:
        """What the panel shows of some samples beside predictions, name -> (B, ...): images, targets (uint8), cells.

        None without images.
        """
        return None

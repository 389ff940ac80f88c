"""Tasks by kind."""

import torch

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig
from lgmamba.data.dataset import Dataset
from lgmamba.model.sequences import SequenceModel
from lgmamba.tasks.automaton.task import AutomatonTask
from lgmamba.tasks.base import Task
from lgmamba.tasks.bytes.task import BytesTask
from lgmamba.tasks.composite.task import CompositeTask
from lgmamba.tasks.copying.task import CopyingTask
from lgmamba.tasks.draw.task import DrawTask
from lgmamba.tasks.forecast.task import ForecastTask
from lgmamba.tasks.inverse.task import InverseTask
from lgmamba.tasks.mqar.task import MqarTask
from lgmamba.tasks.next_item.task import NextItemTask
from lgmamba.tasks.passkey.task import PasskeyTask
from lgmamba.tasks.queried.task import QueriedTask
from lgmamba.tasks.regression.task import RegressionTask
from lgmamba.tasks.seeds import seed_of

TASKS: dict[str, type[Task]] = {
    "draw": DrawTask,
    "queried": QueriedTask,
    "regression": RegressionTask,
    "mqar": MqarTask,
    "copying": CopyingTask,
    "automaton": AutomatonTask,
    "composite": CompositeTask,
    "inverse": InverseTask,
    "bytes": BytesTask,
    "passkey": PasskeyTask,
    "forecast": ForecastTask,
    "next_item": NextItemTask,
}
"""`task.kind` -> class."""


def build_task(run: RunConfig, dataset: Dataset) -> Task:
    """The task of a run, on a data set.

    Raises:
        ConfigError: the data do not fit the run.
    """
    try:
        return TASKS[run.task.kind](run.task, dataset)
    except ConfigError as e:
        raise ConfigError(f"run {run.run!r} does not fit the images: {e}") from None


def build_model(run: RunConfig, image_shape: tuple[int, int, int]) -> SequenceModel:
    """The untrained model of a run; its weights depend on the run's seed alone.

    Args:
        image_shape: of the data set, (C, H, W) pixels; zeros without images.
    Raises:
        ConfigError: the images do not fit the run.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(run.seed, "model"))
        try:
            return TASKS[run.task.kind].build_model(run.task, run.model, image_shape)
        except ValueError as e:
            raise ConfigError(f"run {run.run!r} does not fit the images: {e}") from None

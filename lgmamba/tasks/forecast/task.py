"""The task `forecast`: a series is read, P values a step, and at every step the next day's S values are told.

A prediction is what is added to the seasonal naive forecast, the last day once more, so that a model that knows nothing is as good as that
one. Errors are mean absolute ones over S values and over the mean error of the naive forecast under the same law (MASE, with a scale that all
series share). With more context a series' own course is known better; beyond that nothing is to be had, and a model that gets worse has been
read further than it can be. Reading the newest L0 steps alone (`truncate`) is the control to beat.

No recorded series comes with this project: the law has what such series have (courses of the day and the week, a level that drifts,
correlated noise), and nothing is claimed of any electricity or weather.

Glossary, with that of `lgmamba.tasks.base`: S values of a day, P values of a step. A sample is an id alone.
Reference: MASE as in Hyndman & Koehler 2006, International Journal of Forecasting 22, equation 7.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.data.dataset import Dataset
from lgmamba.model.sequences import SequenceModel
from lgmamba.tasks.base import Scores, Task
from lgmamba.tasks.draws import uniform, uniform_of_each
from lgmamba.tasks.forecast.batch import ForecastSampler
from lgmamba.tasks.forecast.config import ForecastConfig
from lgmamba.tasks.forecast.sequences import Patches
from lgmamba.tasks.forecast.series import numbers

SCALE_SERIES, SCALE_DAYS = 512, 8
"""Of which the naive forecast's mean error is taken."""


class ForecastModel(SequenceModel):
    """A linear map of each patch -> stack -> a linear map to the S values added to the naive forecast, (..., S)."""

    def __init__(self, config: ModelConfig, task: ForecastConfig):
        self.season, self.patch = task.season, task.patch
        super().__init__(config, task.lengths.max)

    def build_embedding(self) -> None:
        self.embed = nn.Linear(self.patch, self.config.d_model)

    def build_read_out(self) -> None:
        self.read_out = nn.Linear(self.config.d_model, self.season)

    def tokens(self, sequences: Any, start: int, stop: int) -> Tensor:
        return self.embed(sequences.x[:, start:stop].to(self.embed.weight.dtype)).to(self.dtype)

    def predict(self, outputs: Tensor) -> Tensor:
        added = self.read_out(outputs)
        return added.to(torch.promote_types(added.dtype, torch.float32))


class ForecastTask(Task):
    """See the module."""

    config: ForecastConfig

    def __init__(self, config: ForecastConfig, dataset: Dataset):
        super().__init__(config, dataset)
        generator = torch.Generator().manual_seed(0)
        sizes = numbers(config, SCALE_DAYS * config.season // config.patch)
        some = Patches.of(config, *(uniform(generator, SCALE_SERIES, n) for n in sizes))
        self.scale = float((some.future - some.last).abs().mean())

    @classmethod
    def build_model(cls, config: Any, model: ModelConfig, image_shape: tuple[int, int, int]) -> ForecastModel:
        return ForecastModel(model, config)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> ForecastSampler:
        return ForecastSampler(self.config, rows, train, seed, full_length)

    def sequences(self, batch: Any) -> Patches:
        return Patches.of(self.config, batch.courses, batch.values)

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> Patches:
        sizes = numbers(self.config, steps)
        courses, values = uniform_of_each(self.dataset.id_hash[rows], repeat, sum(sizes)).split(sizes, dim=1)
        return Patches.of(self.config, courses, values).to(self.dataset.images.device)

    def errors(self, prediction: Tensor, sequences: Any, steps: Tensor) -> dict[str, Tensor]:
        """mase, (B, S)."""
        return {"mase": self._mase(self._at(sequences.last, steps) + prediction, sequences, steps)}

    def baselines(self, sequences: Any, steps: Tensor, ages: Tensor | None) -> dict[str, Scores]:
        """law: knows what each value is made of; seasonal_naive: the last day once more."""
        known = {"law": sequences.law, "seasonal_naive": sequences.last}
        return {name: Scores({"mase": self._mase(self._at(v, steps), sequences, steps)}) for name, v in known.items()}

    def _mase(self, forecast: Tensor, sequences: Patches, steps: Tensor) -> Tensor:
        return (forecast - self._at(sequences.future, steps)).abs().mean(2) / self.scale

    @staticmethod
    def _at(values: Tensor, steps: Tensor) -> Tensor:
        """(B, T, S) at steps (S,) or (B, S)."""
        at = (steps - 1).expand(len(values), -1)
        return values.gather(1, at[..., None].expand(-1, -1, values.shape[2]))

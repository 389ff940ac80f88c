"""Training batches of series. Glossary: `lgmamba.tasks.forecast.task`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.tasks.batch import Batch, Sampler
from lgmamba.tasks.draws import uniform
from lgmamba.tasks.forecast.config import ForecastConfig
from lgmamba.tasks.forecast.series import numbers


@dataclass(frozen=True, kw_only=True)
class ForecastBatch(Batch):
    """Uniform numbers that series are made of: of their courses, and of their values."""

    courses: Tensor
    values: Tensor


class ForecastSampler(Sampler[ForecastBatch]):
    """Draws new series for every batch: nothing of the data set but its device is used."""

    batch = ForecastBatch
    config: ForecastConfig

    def content(
        self, step: int, drawn: Tensor, lengths: Tensor, longest: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        courses, values = (uniform(generator, len(drawn), n) for n in numbers(self.config, longest))
        return {"courses": courses, "values": values}

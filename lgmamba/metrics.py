"""Metrics of tasks, and PSNR in the one place where it is computed.

PSNR = 10 log10(1 / mse) in dB, for pixel values in [0, 1]; mse is a mean squared error, and the mean over images is taken
before the logarithm. It stays within `LIMIT`: a perfect copy, such as every reconstruction of constant images, has 120 dB,
and an error that overflowed has -120 dB, so that means, differences and plots of PSNR are finite. Only nan, no number at
all, stays nan. 120 dB are an error of 1e-6 a pixel, far below one grey level in 8 bits, 48 dB.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

LIMIT = 120.0
"""Largest absolute PSNR, dB."""
LEAST_MSE, LARGEST_MSE = 1e-12, 1e12

Errors = TypeVar("Errors")


def psnr(mse: Errors) -> Errors:
    """PSNR of mean squared errors, dB, in the precision that they come in.

    Args:
        mse: >= 0 on [0, 1] pixels: a number, a numpy array, a torch tensor or a polars expression of any shape.
    """
    values: Any = mse
    if isinstance(mse, int | float):
        import numpy as np  # not with the module: the command line reads configurations without it

        values = np.float64(mse)
    return -10 * _log10(values.clip(LEAST_MSE, LARGEST_MSE))


def _log10(values):
    import numpy as np

    return np.log10(values) if isinstance(values, np.ndarray | np.generic) else values.log10()


@dataclass(frozen=True)
class Metric:
    """How a prediction is judged: an error for each sample, and the level that a mean error is reported as.

    Attributes:
        name: of a sample's error, lower is better.
        level: name of the level, higher is better.
        unit: of the level; "" for a pure number.
        label: name of the level in texts and on axes; `title` adds the unit.
        digits: behind the point, where a level is printed.
        of_mean: mean error over samples -> level, for numbers, arrays, tensors and polars expressions.
        definition: of the level, in a sentence for captions.
        points: unit of differences of levels, where it is not that of the level; None: it is.
    """

    name: str
    level: str
    unit: str
    label: str
    digits: int
    of_mean: Callable[[Errors], Errors]
    definition: str
    points: str | None = None

    @property
    def title(self) -> str:
        """The label with the unit: PSNR (dB)."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def in_words(self) -> str:
        """The label within a sentence: accuracy, but PSNR."""
        return self.label if self.label.isupper() else self.label.lower()

    @property
    def difference_unit(self) -> str:
        """Of one level minus another: pp where levels are percentages."""
        return self.unit if self.points is None else self.points

    def level_at(self, where: str) -> str:
        """What an axis of levels is called: PSNR at T (dB)."""
        return f"{self.label} at {where}" + (f" ({self.unit})" if self.unit else "")

    def change(self, later: str = "T", earlier: str = "L0") -> str:
        """What an axis of differences is called: PSNR(T) \u2212 PSNR(L0) (dB)."""
        unit = f" ({self.difference_unit})" if self.difference_unit else ""
        return f"{self.label}({later}) \u2212 {self.label}({earlier}){unit}"


def accuracy(error_rate: Errors) -> Errors:
    """Per cent of right answers from the rate of wrong ones; any kind of numbers, as of `psnr`."""
    rate: Any = error_rate
    return 100.0 * (1.0 - rate)


PIXELS = Metric(
    "mse",
    "psnr",
    "dB",
    "PSNR",
    digits=2,
    of_mean=psnr,
    definition="PSNR is that of the mean squared error over images.",
)
"""Mean squared error of pixels in [0, 1], reported as PSNR."""

HALF_SQUARE = Metric(
    "half_square", "level", "dB", "Level", digits=2, of_mean=psnr, definition="Level = 10 log10(1 / mean error)."
)
"""Half the squared error of a number; its level is 10 log10(1 / error), the scale of PSNR, on which equal ratios of errors are equal differences."""

ACCURACY = Metric(
    "error_rate",
    "accuracy",
    "%",
    "Accuracy",
    digits=1,
    of_mean=accuracy,
    definition="Accuracy is the share of right answers.",
    points="pp",
)
"""Whether an answer is wrong, 0 or 1, or the share of a sample's answers that are."""

SCALED_ACCURACY = Metric(
    "scaled_error",
    "scaled_accuracy",
    "%",
    "Scaled accuracy",
    digits=1,
    of_mean=accuracy,
    definition="Scaled accuracy = (accuracy - c) / (1 - c), with c that of a guess: 0 % is chance, 100 % is no error.",
    points="pp",
)
"""Wrong answers over those that a guess gives, so that tasks with answers of different numbers have one scale."""


def bits_saved(bits: Errors) -> Errors:
    """Bits of the 8 of a byte that a code of so many bits saves; any kind of numbers, as of `psnr`."""
    length: Any = bits
    return 8.0 - length


BITS = Metric(
    "bits",
    "bits_saved",
    "bits",
    "Bits saved per byte",
    digits=3,
    of_mean=bits_saved,
    definition="Bits saved per byte = 8 - code length of the byte that came, -log2 of its probability.",
)
"""Code length of a byte, bits; its level is what it saves of 8, so that higher is better, as for every level."""

SKILL = Metric(
    "mase",
    "skill",
    "%",
    "Skill",
    digits=1,
    of_mean=accuracy,
    definition="Skill = 100 (1 - MASE), with MASE the mean absolute error over that of the seasonal naive forecast.",
    points="pp",
)
"""Mean absolute scaled error of a forecast; its level is the share of the seasonal naive forecast's error that it spares."""

HITS = Metric(
    "miss_10",
    "hits_10",
    "%",
    "HR@10",
    digits=1,
    of_mean=accuracy,
    definition="HR@10 is the share of next items that are among the ten named.",
    points="pp",
)
"""Whether the next item is not among the ten that a model names."""

NDCG = Metric(
    "ndcg_loss_10",
    "ndcg_10",
    "%",
    "NDCG@10",
    digits=1,
    of_mean=accuracy,
    definition="NDCG@10 is 1 / log2(1 + rank) of the next item if it is among the ten named, else 0.",
    points="pp",
)
"""One minus the discounted gain of the next item's rank."""

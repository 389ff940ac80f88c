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
    """

    name: str
    level: str
    unit: str
    label: str
    digits: int
    of_mean: Callable[[Errors], Errors]

    @property
    def title(self) -> str:
        """The label with the unit: PSNR (dB)."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


PIXELS = Metric("mse", "psnr", "dB", label="PSNR", digits=2, of_mean=psnr)
"""Mean squared error of pixels in [0, 1], reported as PSNR."""


def right_share(wrong: Errors) -> Errors:
    """Share of right answers in percent, of a mean of 1 for a wrong and 0 for a right one; arguments as of `psnr`."""
    found: Any = wrong
    return 100 * (1 - found)


ACCURACY = Metric("wrong", "accuracy", "%", label="Accuracy", digits=1, of_mean=right_share)
"""Whether the answer is wrong (1) or right (0), reported as the share of right ones; differences are in percentage points, pp."""

HALF_SQUARE = Metric("half_square", "level", "dB", label="Level", digits=2, of_mean=psnr)
"""Half the squared error of a number; its level is 10 log10(1 / error), the scale of PSNR, on which equal ratios of errors are equal differences."""

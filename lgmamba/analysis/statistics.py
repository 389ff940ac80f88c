"""Levels of trainings and differences of them, with Student's interval over trainings.

Glossary: I images, K columns (one reading of one training each), S seeds.

The level of a column is the PSNR of the mean over images of the per-image mean squared error (`lgmamba.metrics`). The unit is
a training: a difference of two settings is one number for each seed, both levels from the same images and visiting orders, and
its interval is Student's over these numbers. How much images differ says how well one level is known, and nothing about what
another training would give; it never widens or narrows an interval here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from lgmamba.metrics import PIXELS, Metric

FEWEST = 3
"""Trainings from which figures draw an interval of a mean: that of two is thirteen times as wide as they are apart, and hides all else."""


@dataclass(frozen=True)
class Effect:
    """A mean over trainings with its uncertainty.

    Attributes:
        effect: mean over seeds.
        lo, hi: Student's interval of that mean; nan for one seed.
        p: two-sided, that the mean is zero; nan for one seed.
        sd: standard deviation between seeds; nan for one.
        per_seed: one value for each seed.
        n_images: images that each value is a mean over.
    """

    effect: float
    lo: float
    hi: float
    p: float
    sd: float
    per_seed: tuple[float, ...]
    n_images: int = 0

    @property
    def n_seeds(self) -> int:
        return len(self.per_seed)


def effect_of(values: Sequence[float], level: float, n_images: int = 0) -> Effect:
    """Mean, Student's interval and test of a few values, one for each training.

    Args:
        level: of the interval, for example 0.95.
    """
    found = np.asarray(values, dtype=float)
    mean, kept = float(found.mean()), tuple(found.tolist())
    if len(found) < 2:
        return Effect(mean, math.nan, math.nan, math.nan, math.nan, kept, n_images)
    sd = float(found.std(ddof=1))
    if sd == 0:  # equal to the last bit: nothing to divide by
        return Effect(mean, mean, mean, 1.0 if mean == 0 else 0.0, 0.0, kept, n_images)
    error, df = sd / math.sqrt(len(found)), len(found) - 1
    half = float(special.stdtrit(df, (1 + level) / 2)) * error
    p = 2 * float(special.stdtr(df, -abs(mean) / error))
    return Effect(mean, mean - half, mean + half, p, sd, kept, n_images)


def jackknife(number: Callable[..., float], *samples: np.ndarray) -> np.ndarray:
    """(S,) pseudo-values S x - (S - 1) x_(-i) of a number x of S trainings, where it is not defined for each alone.

    Their mean is x less most of its bias, and their Student's interval is one for it (Tukey 1958; Miller 1974, Biometrika 61). nan
    everywhere where the number is not defined of all trainings, or with some one left out.

    Args:
        number: of the samples.
        samples: arrays whose axis 0 are trainings.
    """
    n = len(samples[0])
    if n < 2:
        return np.array([number(*samples)])
    left_out = [number(*(np.delete(sample, i, 0) for sample in samples)) for i in range(n)]
    found = n * number(*samples) - (n - 1) * np.array(left_out)
    return found if np.isfinite(found).all() else np.full(n, np.nan)


def welch(a: np.ndarray, b: np.ndarray, level: float) -> tuple[float, float, float]:
    """Mean of a minus mean of b with its interval, of trainings that are no pairs (Welch 1947); the ends are nan for less than two."""
    effect = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return effect, math.nan, math.nan
    parts = [float(x.var(ddof=1)) / len(x) for x in (a, b)]
    if not (total := sum(parts)) > 0:
        return (effect, effect, effect) if total == 0 else (math.nan, math.nan, math.nan)
    df = total**2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, (a, b), strict=True))
    half = float(special.stdtrit(df, (1 + level) / 2)) * math.sqrt(total)
    return effect, effect - half, effect + half


class Trainings:
    """Levels of many columns.

    Args:
        mse: (I, K) error of each sample in each column, mean over its sequences: of images the mean squared error.
        level: of the intervals.
        metric: what a mean error is reported as; called PSNR here, whatever it is.
    """

    def __init__(self, mse: np.ndarray, level: float, metric: Metric = PIXELS):
        if mse.ndim != 2 or not mse.size:
            raise ValueError(f"mse: expected (images, columns) with at least one of each, got shape {mse.shape}")
        if not np.isfinite(mse).all() or (mse < 0).any():
            raise ValueError("mse: expected finite values >= 0")
        self.psnr, self.level, self.n_images = metric.of_mean(mse.mean(0)), level, len(mse)  # (K,)

    def level_of(self, columns: Sequence[int]) -> Effect:
        """PSNR of one setting, columns = its seeds."""
        return effect_of(self.psnr[list(columns)], self.level, self.n_images)

    def difference(self, a: Sequence[int], b: Sequence[int]) -> Effect:
        """PSNR of a minus PSNR of b, dB, columns paired seed by seed."""
        a, b = list(a), list(b)
        if len(a) != len(b):
            raise ValueError(f"seeds must pair: a has {len(a)} columns, b has {len(b)}")
        return effect_of(self.psnr[a] - self.psnr[b], self.level, self.n_images)

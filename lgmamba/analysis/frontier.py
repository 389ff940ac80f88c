"""The frontier of one stack and seed in three numbers: conflict gaps, exchange area, synergy. Pure functions of a few points.

With err the share of wrong classes, W weights ascending from 0 to 1:

    G_r = (MSE(1) - MSE(0)) / (MSE_mean-image - MSE(0))    what a latent made for the class alone lacks for the picture
    G_c = (err(0) - err(1)) / (err_chance - err(1))        and the other way; 0: nothing, 1: everything
    R(w) = (MSE(w) - MSE(0)) / (MSE(1) - MSE(0)),   K(w) = (err(w) - err(1)) / (err(0) - err(1))
    A = area under the lower convex hull of the points (K, R) between K = 0 and 1

A is 0 where both are had at no cost and 0.5 where one is given for the other in proportion. It may be negative where some
weight is ahead of both ends.
"""

from collections.abc import Sequence

import numpy as np

from lgmamba.metrics import psnr


def conflict_gaps(mse: np.ndarray, accuracy: np.ndarray, mse_mean_image: float, chance: float) -> tuple[float, float]:
    """G_r and G_c; nan where a head is no better than knowing nothing.

    Args:
        mse, accuracy: (W,) of ascending weights from 0 to 1; accuracy in percent.
        mse_mean_image: of drawing the mean training image.
        chance: accuracy (%) of naming the commonest class.
    """
    r, c = mse_mean_image - mse[0], accuracy[-1] - chance
    gap_r = (mse[-1] - mse[0]) / r if r > 0 else np.nan
    gap_c = (accuracy[-1] - accuracy[0]) / c if c > 0 else np.nan
    return float(gap_r), float(gap_c)


def exchange_area(mse: np.ndarray, accuracy: np.ndarray) -> float:
    """A; nan where one of the ends is not ahead of the other in what it was trained for.

    Args:
        mse, accuracy: (W,) of ascending weights from 0 to 1.
    """
    lost_r, lost_c = mse[-1] - mse[0], accuracy[-1] - accuracy[0]
    if not (lost_r > 0 and lost_c > 0):
        return float("nan")
    R, K = (mse - mse[0]) / lost_r, (accuracy[-1] - accuracy) / lost_c
    x, y = np.array(lower_hull(sorted(zip(K.tolist(), R.tolist(), strict=True)))).T
    inside = np.unique(np.concatenate([[0.0, 1.0], x[(x > 0) & (x < 1)]]))
    return float(np.trapezoid(np.interp(inside, x, y), inside))


def lower_hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Lower convex hull of points sorted by x, then y, from the leftmost to the rightmost (Andrew 1979): one point for each x."""
    hull: list[tuple[float, float]] = []
    for x, y in points:
        if hull and hull[-1][0] == x:  # above it: a wall at the right end is no part of what can be had
            continue
        while len(hull) >= 2:
            (x0, y0), (x1, y1) = hull[-2:]
            if (x1 - x0) * (y - y0) > (y1 - y0) * (x - x0):
                break
            hull.pop()
        hull.append((x, y))
    return hull


def synergy(mse: np.ndarray, accuracy: np.ndarray, margin_psnr: float, margin_accuracy: float) -> float:
    """The largest, over weights between 0 and 1, of the smaller of two gains, each in its margin; above 0: both gain.

    Gains are PSNR(w) - PSNR(0) and accuracy(w) - accuracy(1). The best of several weights is taken, which favours a synergy.
    """
    levels = psnr(mse)
    gains = np.minimum((levels - levels[0]) / margin_psnr, (accuracy - accuracy[-1]) / margin_accuracy)
    return float(gains[1:-1].max())

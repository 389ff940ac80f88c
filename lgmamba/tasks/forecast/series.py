"""The law of the series. Glossary: `lgmamba.tasks.forecast.task`.

    y_n = (1 + week v_(day mod 7)) c_(n mod S) + l_n + e_n,    l_n = l_(n-1) + drift g_n,    e_n = memory e_(n-1) + sd g'_n

c: sum of `waves` harmonics with normal coefficients, of standard deviation 1; v, g, g': standard normal; n = 0 is S values before the first
step, so that the day before is always known.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.tasks.draws import gaussian
from lgmamba.tasks.forecast.config import ForecastConfig

DAYS = 7


def numbers(config: ForecastConfig, steps: int) -> tuple[int, int]:
    """Uniform numbers that a series of so many steps takes: for its courses, and for its values, two each."""
    return 2 * config.waves + DAYS, 2 * values(config, steps)


def values(config: ForecastConfig, steps: int) -> int:
    """Values with the day before the first step and the day after the last."""
    return steps * config.patch + 2 * config.season


@dataclass(frozen=True)
class Drawn:
    """Series with what they are made of, (B, n) float32 each.

    Attributes:
        y: values.
        course, level, noise: their sum is y.
    """

    y: Tensor
    course: Tensor
    level: Tensor
    noise: Tensor


def series(config: ForecastConfig, courses: Tensor, steps: Tensor) -> Drawn:
    """Series from uniform numbers, (B, first of `numbers`) and (B, second of them); of fewer of the latter, their beginning."""
    n = steps.shape[1] // 2
    drawn, moves = gaussian(courses), gaussian(steps).unflatten(1, (n, 2))
    a, b, days = drawn.split([config.waves, config.waves, DAYS], dim=1)
    at = torch.arange(n, device=steps.device)
    course = torch.zeros_like(moves[..., 0])
    for k in range(config.waves):  # one after the other, so that a series is the same whatever others are drawn
        angle = 2 * math.pi * (k + 1) * at / config.season
        course = course + (a[:, k : k + 1] * angle.cos() + b[:, k : k + 1] * angle.sin()) / math.sqrt(config.waves)
    course = course * (1 + config.week * days[:, (at // config.season) % DAYS])
    level = config.drift * moves[..., 0].cumsum(1)
    noise = _correlated(config, moves[..., 1])
    return Drawn(course + level + noise, course, level, noise)


def _correlated(config: ForecastConfig, g: Tensor) -> Tensor:
    """e_n, one after the other, from its stationary law."""
    sd = config.noise * math.sqrt(1 - config.memory**2)
    first, *rest = g.unbind(1)
    found = [config.noise * first]
    for move in rest:
        found.append(config.memory * found[-1] + sd * move)
    return torch.stack(found, dim=1)


def ahead(config: ForecastConfig, drawn: Drawn) -> Tensor:
    """The forecast of one who knows what each value is made of, (B, T, S): course that comes, level as it is, noise that fades."""
    S, P = config.season, config.patch
    now = torch.arange(S + P - 1, drawn.y.shape[1] - S, P, device=drawn.y.device)  # the last value read, of each step
    fading = config.memory ** torch.arange(1, S + 1, device=drawn.y.device).float()
    coming = drawn.course.unfold(1, S, 1)[:, now + 1]
    return coming + drawn.level[:, now, None] + drawn.noise[:, now, None] * fading

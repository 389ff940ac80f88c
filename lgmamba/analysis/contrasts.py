"""Primary contrasts: one number for each training, Student's interval over trainings, Holm over the study's contrasts.

The unit is a training. For each seed a contrast is one difference of levels, both from the same images and visiting orders;
the interval is Student's over these differences. How much images differ says nothing about other trainings, and is not mixed in.

    shown               significant after Holm's correction, on the claimed side, and at least the margin
    shown, but small    the same, and below the margin
    the opposite        significant on the other side
    no difference       not significant, and the interval lies within the margin on both sides
    undecided           anything else; `detectable` says how large an effect these seeds could have shown
    described           fewer trainings than claims.seeds: an effect without a verdict
    not testable here   a number is missing, with the reason
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from scipy import optimize, stats

from lgmamba.analysis.statistics import Effect, effect_of
from lgmamba.config.claims import ClaimsConfig, Side

SHOWN, SMALL, OPPOSITE = "shown", "shown, but small", "the opposite"
SAME, UNDECIDED, DESCRIBED, UNTESTABLE = "no difference", "undecided", "described", "not testable here"
VERDICTS = (SHOWN, SMALL, OPPOSITE, SAME, UNDECIDED, DESCRIBED, UNTESTABLE)
POWER = 0.8
"""Chance of a significant result at the effect called detectable."""
GRID = 4000
"""Points at which the law of the estimated spread is taken."""

LEVELS = ("run", "seed", "method", "mode", "order", "step", "value")
"""Columns of the frame of levels: one row for each training and setting; value is the metric of the mean error."""

SCHEMA: dict[str, Any] = {
    "name": pl.String,
    "claim": pl.String,
    "of": pl.String,
    "minus": pl.String,
    "claimed": pl.String,
    "effect": pl.Float64,
    "lo": pl.Float64,
    "hi": pl.Float64,
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "sd": pl.Float64,
    "detectable": pl.Float64,
    "n_seeds": pl.Int64,
    "seeds": pl.List(pl.Int64),
    "per_seed": pl.List(pl.Float64),
    "of_level": pl.Float64,
    "minus_level": pl.Float64,
    "verdict": pl.String,
    "reason": pl.String,
}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): adjusted p-values in the given order; nan stays nan and does not count.

    scipy has no Holm, and a package for these lines would be the largest of the analysis.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), math.nan)
    tested = np.flatnonzero(~np.isnan(p))
    ascending = tested[np.argsort(p[tested], kind="stable")]
    steps = np.minimum(1.0, p[ascending] * np.arange(len(ascending), 0, -1))
    adjusted[ascending] = np.maximum.accumulate(steps)
    return adjusted.tolist()


def detectable(sd: float, n: int, level: float, power: float = POWER) -> float:
    """Smallest mean difference that n trainings of this spread show with the given chance, one test at this level.

    nan for fewer than two trainings.
    """
    if n < 2 or math.isnan(sd):
        return math.nan
    if sd == 0:
        return 0.0
    df = n - 1
    critical = float(stats.t.ppf((1 + level) / 2, df))
    # scipy's noncentral t is nan for large shifts: the chance is averaged over the law of the estimated spread instead.
    threshold = critical * np.sqrt(stats.chi2.ppf((np.arange(GRID) + 0.5) / GRID, df) / df)

    def missing(shift: float) -> float:
        return float(np.mean(stats.norm.sf(threshold - shift) + stats.norm.cdf(-threshold - shift))) - power

    return float(optimize.brentq(missing, 0.0, 10 * critical)) * sd / math.sqrt(n)


def verdict(found: Effect, p_holm: float, sign: int, claims: ClaimsConfig, n: int, needed: int) -> str:
    """The words of this module's heading."""
    if n < needed:
        return DESCRIBED
    if p_holm < 1 - claims.level:
        if sign * found.effect < 0:
            return OPPOSITE
        return SHOWN if abs(found.effect) >= claims.margin else SMALL
    return SAME if -claims.margin < found.lo and found.hi < claims.margin else UNDECIDED


@dataclass(frozen=True)
class Tested:
    """A contrast with its numbers.

    Attributes:
        name, claim, claimed: as the configuration has them.
        of, minus: the two sides in words.
        of_levels, minus_levels: seed -> level.
        rule: margin and level of its verdict.
        needed: trainings that a verdict takes.
        missing: why there is no number, where that is known.
    """

    name: str
    claim: str
    claimed: Literal["above", "below"]
    of: str
    minus: str
    of_levels: dict[int, float]
    minus_levels: dict[int, float]
    rule: ClaimsConfig
    needed: int
    missing: str | None = None

    @property
    def seeds(self) -> list[int]:
        """Those of which both sides have a number."""
        return sorted(self.of_levels.keys() & self.minus_levels.keys())

    @property
    def differences(self) -> list[float]:
        """One for each of `seeds`."""
        return [self.of_levels[seed] - self.minus_levels[seed] for seed in self.seeds]


@dataclass(frozen=True)
class Levels:
    """All that the sides of contrasts are looked up in.

    Attributes:
        frames: metric (None: the task's own) -> levels, columns LEVELS.
        L0: longest training length of every run, steps.
        order: visiting order where a side names none.
        null: method that knows nothing of a sequence, `TaskBase.NULL`.
        no_read_outs: why no read-outs were refitted; None where some were.
    """

    frames: Mapping[str | None, pl.DataFrame]
    L0: Mapping[str, int]
    order: str
    null: str
    no_read_outs: str | None = None


def contrasts_frame(levels: Levels, claims: ClaimsConfig) -> pl.DataFrame:
    """One row for each primary contrast.

    Args:
        levels: of all trainings.
        claims: contrasts, margins, level.
    Returns:
        columns SCHEMA; intervals, p-values and spread are null for fewer than two trainings.
    """
    return judged(
        [
            Tested(
                contrast.name,
                contrast.claim,
                contrast.claimed,
                describe_side(contrast.of),
                describe_side(contrast.minus),
                _by_seed(levels, contrast.of),
                _by_seed(levels, contrast.minus),
                claims.rule(contrast),
                contrast.needs_seeds or claims.seeds,
                levels.no_read_outs if contrast.of.read_out else None,
            )
            for contrast in claims.primary
        ]
    )


def judged(contrasts: Sequence[Tested]) -> pl.DataFrame:
    """One row for each contrast of a study, columns SCHEMA; Holm's correction is over those with trainings enough."""
    results = [effect_of(c.differences, c.rule.level) if c.seeds else None for c in contrasts]
    tested = [
        result.p if result is not None and len(c.seeds) >= c.needed else math.nan
        for result, c in zip(results, contrasts, strict=True)
    ]
    rows = [_row(c, result, p_holm) for c, result, p_holm in zip(contrasts, results, holm(tested), strict=True)]
    return pl.DataFrame(rows, schema=SCHEMA)


def _row(contrast: Tested, result: Effect | None, p_holm: float) -> dict[str, object]:
    seeds, claims = contrast.seeds, contrast.rule
    row: dict[str, object] = {
        "name": contrast.name,
        "claim": contrast.claim,
        "of": contrast.of,
        "minus": contrast.minus,
        "claimed": contrast.claimed,
        "n_seeds": len(seeds),
        "seeds": seeds,
        "per_seed": contrast.differences,
    }
    if result is None:
        side = contrast.minus if contrast.of_levels else contrast.of
        return row | {"verdict": UNTESTABLE, "reason": contrast.missing or f"no training has a number for {side}"}
    reason = None
    if len(seeds) < contrast.needed:
        reason = f"{len(seeds)} of the {contrast.needed} trainings needed for a verdict"
    numbers = {
        "effect": result.effect,
        "lo": result.lo,
        "hi": result.hi,
        "p": result.p,
        "p_holm": p_holm,
        "sd": result.sd,
        "detectable": detectable(result.sd, len(seeds), claims.level),
        "of_level": float(np.mean([contrast.of_levels[seed] for seed in seeds])),
        "minus_level": float(np.mean([contrast.minus_levels[seed] for seed in seeds])),
    }
    row |= {name: None if math.isnan(value) else value for name, value in numbers.items()}
    sign = 1 if contrast.claimed == "above" else -1
    word = verdict(result, p_holm, sign, claims, len(seeds), contrast.needed)
    return row | {"verdict": word, "reason": reason}


def _by_seed(levels: Levels, side: Side) -> dict[int, float]:
    """Seed -> what the side comes to, the mean over its runs; only seeds that have all of it."""
    parts = []
    for run in side.runs:
        found = _levels(levels, side, run, side.steps(levels.L0[run]))
        if less := side.steps_less(levels.L0[run]):
            off = _levels(levels, side, run, less)
            found = {seed: found[seed] - off[seed] for seed in found.keys() & off.keys()}
        parts.append(_kept(levels, side, run, found) if side.measure == "kept" else found)
    complete = set.intersection(*(set(part) for part in parts))
    return {seed: float(np.mean([part[seed] for part in parts])) for seed in sorted(complete)}


def _kept(levels: Levels, side: Side, run: str, found: Mapping[int, float]) -> dict[int, float]:
    """Seed -> share (%) of the lead at L0 over what knows nothing; only seeds that have a lead."""
    at_L0 = [levels.L0[run]]
    full, nothing = _levels(levels, side, run, at_L0), _levels(levels, side, run, at_L0, levels.null)
    leads = {seed: full[seed] - nothing[seed] for seed in found.keys() & full.keys() & nothing.keys()}
    return {seed: 100 * (found[seed] - nothing[seed]) / lead for seed, lead in leads.items() if lead > 0}


def _levels(levels: Levels, side: Side, run: str, steps: list[int], method: str | None = None) -> dict[int, float]:
    """Seed -> mean level of a run over some lengths; only seeds that have all of them. Method: None: the side's own."""
    methods = [method] if method else side.methods
    here = levels.frames[side.metric].filter(
        pl.col("run") == run,
        pl.col("method").is_in(methods),
        pl.col("order") == (side.order or levels.order),
        pl.col("step").is_in(steps),
    )
    if not side.treated:  # a remedy is read in its own mode
        here = here.filter(pl.col("mode") == side.mode)
    complete = (
        here.group_by("seed", "method")
        .agg(pl.col("value").mean(), pl.col("step").n_unique().alias("n"))
        .filter(pl.col("n") == len(steps), pl.col("value").is_finite())
    )
    best = complete.group_by("seed").agg(pl.col("value").max(), pl.len().alias("n")).filter(n=len(methods))
    return dict(best.select("seed", "value").iter_rows())


def describe_side(side: Side) -> str:
    """A side in a few words: fixed_64 at 4 L0, stream; best of truncate, reset on fixed_64 at 25 L0."""
    what = side.run if side.also is None else f"the mean of {', '.join(side.runs)}"
    if side.best_of:
        what = f"best of {', '.join(side.best_of)} on {side.run}"
    elif side.remedy:
        what = f"{side.remedy} on {side.run}"
    elif side.read_out:
        what = f"{what}, {'its own read-out' if side.method == 'trained' else 'read-out refitted'},"
    elif side.method != "model":
        what = side.method.replace("_", " ")
    more: list[str] = [] if side.mode == "prefix" else [side.mode]
    more += [] if side.order is None else [f"order {side.order}"]
    if side.measure == "kept":
        what = f"share of its lead {f'in {side.metric} ' if side.metric else ''}at L0 that {what} has"
    elif side.metric:
        what = f"{side.metric} of {what}"
    less = f" less that at {' and '.join(side.less)}" if side.less else ""
    return ", ".join([f"{what} at {' and '.join(side.at)}{less}", *more])

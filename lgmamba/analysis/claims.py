"""The claims C1 to C5: one row for each tested cell, one verdict for each claim. Computed, never typed.

Rule for a cell: `Effect.verdict` (interval and every seed). Rule for a claim, over its testable cells:
    holds               all of them hold
    holds in part       some hold
    does not hold       none holds, at least one is shown to be the other way round
    not shown           none holds and none is shown to be the other way round
    not testable here   there is no testable cell, or the claim needs runs that the study lacks
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from lgmamba.analysis.families import Family, families, untreated
from lgmamba.analysis.retention import Maps, distance_beyond_seeds, slope
from lgmamba.analysis.samples import MEAN_IMAGE, Samples
from lgmamba.analysis.statistics import FAILS, HOLDS, OPEN, UNTESTABLE, Bootstrap, Effect, seeds_only
from lgmamba.config.study import Params

STATEMENTS = {
    "C1": "The error rises beyond the training length",
    "C2": "The strategy depends on the distribution of training lengths",
    "C3": "Specialists beat the generalist at their own length",
    "C4": "The length-adaptive variant improves across the training lengths",
    "C5": "Forgetting of old patches grows beyond the training length",
}
HOLDS_IN_PART = "holds in part"
DB, SQUARED = "dB", "pixel value^2"
LENGTHS_FOR_C3 = 4  # fewer lengths with a specialist are no envelope

SCHEMA = {
    "claim": pl.String,
    "measure": pl.String,
    "family": pl.String,
    "run": pl.String,
    "against": pl.String,
    "step": pl.Int64,
    "factor": pl.Float64,
    "claimed_sign": pl.Int64,
    "effect": pl.Float64,
    "lo": pl.Float64,
    "hi": pl.Float64,
    "lo_t": pl.Float64,
    "hi_t": pl.Float64,
    "unit": pl.String,
    "per_seed": pl.List(pl.Float64),
    "d_z": pl.Float64,
    "n_seeds": pl.Int64,
    "n_images": pl.Int64,
    "verdict": pl.String,
}


@dataclass(frozen=True)
class Evidence:
    """All that the claims are computed from."""

    params: Params
    samples: Samples
    bootstrap: Bootstrap
    maps: Maps


@dataclass(frozen=True)
class Cell:
    """One tested comparison: `run` against `against` (a run, a baseline, or the run itself at another step) at a step."""

    claim: str
    measure: str
    sign: int
    run: str
    against: str
    step: int
    effect: Effect | None
    unit: str = DB
    factor: float | None = None
    family: str | None = None

    def row(self) -> dict[str, object]:
        """As a row of claims.parquet; numbers that do not exist are null."""
        e = self.effect
        numbers = {name: _number(getattr(e, name, None)) for name in ("effect", "lo", "hi", "lo_t", "hi_t", "d_z")}
        return numbers | {
            "claim": self.claim,
            "measure": self.measure,
            "family": self.family,
            "run": self.run,
            "against": self.against,
            "step": self.step,
            "factor": self.factor,
            "claimed_sign": self.sign,
            "unit": self.unit,
            "per_seed": [] if e is None else [_number(v) for v in e.per_seed],
            "n_seeds": 0 if e is None else e.n_seeds,
            "n_images": 0 if e is None else e.n_images,
            "verdict": UNTESTABLE if e is None else e.verdict(self.sign),
        }


def claim_cells(evidence: Evidence) -> pl.DataFrame:
    """claims.parquet: every tested cell of every claim."""
    cells = list(_c1(evidence)) + list(_c5(evidence))
    compared: set[str] = set()
    for family in families(evidence.params):
        if family.generalist not in compared:  # several length-adaptive runs may share the rest of a family
            cells += [*_c2(evidence, family), *_c3(evidence, family)]
        compared.add(family.generalist)
        cells += _c4(evidence, family)
    return pl.DataFrame([cell.row() for cell in cells], schema=SCHEMA).sort("claim", maintain_order=True)


def _c1(ev: Evidence) -> Iterator[Cell]:
    """PSNR(f x L0) - PSNR(L0) < 0, every run that was not trained to go on beyond L0."""
    for name, run in untreated(ev.params).items():
        for factor in ev.params.claims.far_factors:
            step = round(factor * run.L0)
            effect = _difference(ev, ev.samples.of(name, step), ev.samples.of(name, run.L0))
            yield Cell(
                "C1",
                f"PSNR({factor:g} L0) - PSNR(L0)",
                -1,
                name,
                f"itself at L0 = {run.L0}",
                step,
                effect,
                factor=factor,
            )


def _c2(ev: Evidence, family: Family) -> Iterator[Cell]:
    """At t << L0 the specialist is worse than the mean image and the generalist better; and their retention maps differ."""
    early = {L0: [t for t in ev.samples.steps(run) if L0 / 8 <= t <= L0 / 4] for L0, run in family.specialists.items()}
    tested = [(run, t, -1) for L0, run in family.specialists.items() for t in early[L0]]
    tested += [(family.generalist, t, +1) for t in sorted(set().union(*early.values()))]
    for run, step, sign in tested:
        effect = _difference(ev, ev.samples.of(run, step), ev.samples.of(run, 0, MEAN_IMAGE))
        yield Cell(
            "C2", "PSNR(t) - PSNR of the mean image", sign, run, "mean image", step, effect, family=family.generalist
        )
    for L0, specialist in family.specialists.items():
        if early[L0]:
            apart = distance_beyond_seeds(ev.maps, specialist, family.generalist, ev.samples.seeds, L0)
            measure = "distance of their retention maps beyond that between seeds"
            yield Cell(
                "C2",
                measure,
                +1,
                specialist,
                family.generalist,
                L0,
                _over_seeds(ev, apart),
                SQUARED,
                family=family.generalist,
            )


def _c3(ev: Evidence, family: Family) -> Iterator[Cell]:
    """specialist(T) - generalist(T) > 0 at each length with a specialist."""
    for T, specialist in family.specialists.items():
        effect = _difference(ev, ev.samples.of(specialist, T), ev.samples.of(family.generalist, T))
        yield Cell(
            "C3",
            "PSNR(specialist) - PSNR(generalist) at T",
            +1,
            specialist,
            family.generalist,
            T,
            effect,
            family=family.generalist,
        )


def _c4(ev: Evidence, family: Family) -> Iterator[Cell]:
    """adaptive(T) - generalist(T) > 0 at every probed T that the generalist was trained on."""
    for T in (t for t in ev.samples.steps(family.generalist) if t in family.lengths):
        effect = _difference(ev, ev.samples.of(family.adaptive, T), ev.samples.of(family.generalist, T))
        yield Cell(
            "C4",
            "PSNR(adaptive) - PSNR(generalist) at T",
            +1,
            family.adaptive,
            family.generalist,
            T,
            effect,
            family=family.generalist,
        )


def _c5(ev: Evidence) -> Iterator[Cell]:
    """Slope of the error with log2(1 + age): larger at f x L0 than at L0, the runs of C1.

    Resampled over seeds only, since the maps are means over images.
    """
    for name, run in untreated(ev.params).items():
        for factor in ev.params.claims.far_factors:
            step = round(factor * run.L0)
            growth = [slope(ev.maps[name, s], step) - slope(ev.maps[name, s], run.L0) for s in ev.samples.seeds]
            measure = f"slope of the error with log2(1 + age), at {factor:g} L0 minus at L0"
            yield Cell(
                "C5", measure, +1, name, f"itself at L0 = {run.L0}", step, _over_seeds(ev, growth), SQUARED, factor
            )


def summarise_claims(cells: pl.DataFrame, params: Params) -> pl.DataFrame:
    """One row for each claim: its verdict by the rule of this module, and how many cells gave which verdict."""
    rows = []
    for claim, statement in STATEMENTS.items():
        here = cells.filter(pl.col("claim") == claim)
        verdicts = here["verdict"].to_list()
        count = {word: verdicts.count(word) for word in (HOLDS, FAILS, OPEN, UNTESTABLE)}
        reason = _untestable_reason(claim, here, params)
        strict = here.filter(
            (pl.col("verdict") == HOLDS)
            & (pl.when(pl.col("claimed_sign") > 0).then("lo_t").otherwise(-pl.col("hi_t")) > 0)
        )
        rows.append(
            {
                "claim": claim,
                "statement": statement,
                "verdict": UNTESTABLE if reason else claim_verdict(count),
                "reason": reason,
                "cells": len(verdicts),
                "holds": count[HOLDS],
                "does_not_hold": count[FAILS],
                "not_shown": count[OPEN],
                "not_testable": count[UNTESTABLE],
                "holds_student": len(strict),
            }
        )
    return pl.DataFrame(rows, schema_overrides={"reason": pl.String}, infer_schema_length=None)


def claim_verdict(count: dict[str, int]) -> str:
    """The claim's verdict from the number of its cells with each verdict."""
    if not count[HOLDS] + count[FAILS] + count[OPEN]:
        return UNTESTABLE
    if count[HOLDS]:
        return HOLDS if not count[FAILS] + count[OPEN] else HOLDS_IN_PART
    return FAILS if count[FAILS] else OPEN


def _untestable_reason(claim: str, cells: pl.DataFrame, params: Params) -> str | None:
    if cells.is_empty():
        return "the study has no runs that this claim compares"
    if len(params.seeds) < 2:
        return "one seed says nothing about the spread between trainings"
    lengths = max((len(f.specialists) for f in families(params)), default=0)
    if claim == "C3" and lengths < LENGTHS_FOR_C3:
        return f"needs specialists at {LENGTHS_FOR_C3} lengths or more, the study has {lengths}"
    return None


def _difference(ev: Evidence, a: list[int] | None, b: list[int] | None) -> Effect | None:
    return None if a is None or b is None else ev.bootstrap.difference(a, b)


def _over_seeds(ev: Evidence, values) -> Effect | None:
    if any(math.isnan(value) for value in values):
        return None
    return seeds_only(np.asarray(values), ev.params.claims.bootstrap, ev.params.claims.level)


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)

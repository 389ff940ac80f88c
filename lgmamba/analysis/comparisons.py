"""Studies that compare the same thing several times: one family at several training budgets, many adaptive forms with one generalist.

Both are read like any study; these frames put side by side what such a study is made for.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import polars as pl

from lgmamba.analysis.families import ADAPTIVE, GENERALIST, MANY_FORMS, Family, describe_run, kind_of
from lgmamba.analysis.frames import Evidence, interval_of
from lgmamba.analysis.statistics import Effect

LEVEL = "PSNR at T"
SPECIALIST_LEAD = "specialist minus generalist at T"
ADAPTIVE_LEAD = "adaptive minus generalist at T"
ADAPTIVE_BEHIND = "adaptive minus specialist at T"
TOTAL_BEHIND = "adaptive of the specialists' total budget minus specialist at T"
CHANGE = "PSNR at T minus PSNR at L0"
NUMBERS = ("value", "lo", "hi", "seeds_lo", "seeds_hi")
"""Columns of these frames of which accuracy has the same."""
_FLOATS = ("factor", "value", "lo", "hi", "seeds_lo", "seeds_hi")
_ROW: dict[str, type[pl.DataType]] = {"measure": pl.String, "role": pl.String, "run": pl.String, "step": pl.Int64}
_ROW.update({name: pl.Float64 for name in _FLOATS} | {name: pl.Int64 for name in ("n_seeds", "n_images")})


def budget_frame(ev: Evidence) -> pl.DataFrame:
    """Levels and differences of each family by training budget.

    Columns: budget (training steps), measure, role (specialist, generalist, adaptive; null for differences), run, step (T),
    factor (T / L0 for CHANGE), value (dB) with interval over trainings, seeds_lo, seeds_hi, n_seeds, n_images.
    """
    runs = ev.params.runs_by_name()
    by_budget: dict[int, Family] = {}
    for family in ev.families():  # of several families with one budget the first counts
        by_budget.setdefault(runs[family.generalist].train.steps, family)
    rows = [{"budget": budget} | row for budget, family in by_budget.items() for row in _budget_rows(ev, family)]
    rows += [{"budget": budget} | row for budget in by_budget for row in _total_rows(ev, budget, by_budget)]
    frame = pl.DataFrame(rows, schema={"budget": pl.Int64, **_ROW})
    return frame.sort("measure", "role", "step", "budget", maintain_order=True)


def _budget_rows(ev: Evidence, family: Family) -> Iterator[dict[str, Any]]:
    for T, specialist in family.specialists.items():
        roles = {"specialist": specialist, "generalist": family.generalist, "adaptive": family.adaptive}
        at = {role: ev.samples.at(run, T) for role, run in roles.items()}
        for role, run in roles.items():
            yield _row(LEVEL, role, run, T, ev.trainings.level_of(at[role]))
        for measure, a, b in (
            (SPECIALIST_LEAD, "specialist", "generalist"),
            (ADAPTIVE_LEAD, "adaptive", "generalist"),
            (ADAPTIVE_BEHIND, "adaptive", "specialist"),
        ):
            yield _row(measure, None, roles[a], T, ev.trainings.difference(at[a], at[b]))
        for role, run in roles.items():
            if ev.params.runs_by_name()[run].L0 == family.L0:
                yield from _changes(ev, role, run)


def _total_rows(ev: Evidence, budget: int, by_budget: dict[int, Family]) -> Iterator[dict[str, Any]]:
    """One adaptive run takes the place of n specialists: it is given n times the budget that each of them had."""
    family = by_budget[budget]
    longer = by_budget.get(budget * len(family.specialists))
    if longer is None or len(family.specialists) < 2:
        return
    for T, specialist in family.specialists.items():
        told, one = (ev.samples.at(run, T) for run in (longer.adaptive, specialist))
        yield _row(TOTAL_BEHIND, None, longer.adaptive, T, ev.trainings.difference(told, one))


def form_frame(ev: Evidence) -> pl.DataFrame:
    """Every length-adaptive run, and every plain run of many lengths, against a generalist that has three forms or more.

    Columns: family, run, note, words (how it was trained), measure (ADAPTIVE_LEAD or CHANGE), step (T), factor (T / L0 for
    CHANGE), lead (of the specialist, dB, for ADAPTIVE_LEAD), value (dB) with interval, seeds_lo, seeds_hi, n_seeds, n_images.
    """
    runs, notes, rows = ev.params.runs_by_name(), ev.params.notes(), []
    forms = Counter(f.generalist for f in ev.families())
    for family in {f.generalist: f for f in ev.families() if forms[f.generalist] >= MANY_FORMS}.values():
        for name, run in runs.items():
            comparable = run.L0 == family.L0 and run.train.steps == runs[family.generalist].train.steps
            if kind_of(run) not in (ADAPTIVE, GENERALIST) or not comparable or name not in ev.runs:
                continue
            about = {"family": family.generalist, "note": notes.get(name), "words": describe_run(run)}
            for T, specialist in family.specialists.items():
                at_T = [ev.samples.at(who, T) for who in (name, family.generalist, specialist)]
                lead = ev.trainings.difference(at_T[2], at_T[1]).effect
                row = _row(ADAPTIVE_LEAD, None, name, T, ev.trainings.difference(at_T[0], at_T[1]))
                rows.append(about | row | {"lead": lead})
            rows += [about | row | {"lead": None} for row in _changes(ev, None, name)]
    words = {name: pl.String for name in ("family", "note", "words")}
    return pl.DataFrame(rows, schema={**words, **_ROW, "lead": pl.Float64}).drop("role")


def _changes(ev: Evidence, role: str | None, run: str) -> Iterator[dict[str, Any]]:
    """PSNR at multiples of a run's own L0, minus that at L0."""
    L0 = ev.params.runs_by_name()[run].L0
    for factor in ev.params.claims.far_length_ratios:
        columns = ev.samples.of(run, round(factor * L0))
        if columns is not None:
            effect = ev.trainings.difference(columns, ev.samples.at(run, L0))
            yield _row(CHANGE, role, run, round(factor * L0), effect) | {"factor": float(factor)}


def _row(measure: str, role: str | None, run: str, step: int, effect: Effect) -> dict[str, Any]:
    return {
        "measure": measure,
        "role": role,
        "run": run,
        "step": step,
        "factor": None,
        "seeds_lo": min(effect.per_seed),
        "seeds_hi": max(effect.per_seed),
        "n_seeds": effect.n_seeds,
        "n_images": effect.n_images,
    } | {name.removeprefix("value_"): value for name, value in interval_of(effect, "value").items()}

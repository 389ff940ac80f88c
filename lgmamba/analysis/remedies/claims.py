"""C6 and following, one claim for each remedy; and the goals: what would have to be true of one remedy everywhere.

A claim "it beats vanilla and a random subset beyond L0, and changes nothing up to it" has three parts, each with a cell for every
run, order and step: PSNR above `vanilla`, and above `subset_random`, at T >= 2 L0; and no difference from vanilla at T <= L0. Each
part has a verdict by the rule of `analysis.claims`; the claim has that of its worst part: does not hold, not testable here, not
shown, holds in part, holds. A goal is tested for each run and order apart, and is reached by a remedy only if all its cells hold.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from lgmamba.analysis.claims import HOLDS_IN_PART, claim_verdict
from lgmamba.analysis.families import GENERALIST, kind_of
from lgmamba.analysis.remedies import AT_L0, VANILLA
from lgmamba.analysis.remedies.collect import Remedy
from lgmamba.analysis.remedies.frames import ABOVE, WITHIN, RemedyEvidence
from lgmamba.analysis.statistics import FAILS, HOLDS, OPEN, UNTESTABLE, Effect
from lgmamba.config.remedies import RESERVED
from lgmamba.config.study import Params
from lgmamba.config.together import JUDGED_FROM

FIRST_CLAIM = 6
BEYOND = JUDGED_FROM
RIVALS = ("freeze", "subset_random", "subset_cover")
FALL_DB, LEVEL_DB, SHARE = 0.05, 0.1, 0.5

GOALS = {
    "no_loss": "changes nothing at T \u2264 L0",
    "never_falls": f"never falls as T grows, to within {FALL_DB:g} dB",
    "beats_controls": f"beats {', '.join(RIVALS[:-1])} and {RIVALS[-1]} at every T \u2265 {BEYOND:g} L0",
    "recovers": f"recovers at least {100 * SHARE:g} % of what the generalist of the next longer L0 has, wherever T reaches that length",
    "keeps_level": f"stays within {LEVEL_DB:g} dB of L0 at the longest T",
}
DB, RATIO = "dB", "1"
PARTS = (VANILLA, "subset_random", WITHIN)

CLAIMS = dict.fromkeys(("claim", "remedy", "statement", "verdict", "reason"), pl.String)
CLAIMS |= dict.fromkeys(("cells", "holds", "does_not_hold", "not_shown", "not_testable"), pl.Int64)
for _part in PARTS:
    CLAIMS |= {f"{_part}_verdict": pl.String, f"{_part}_cells": pl.Int64, f"{_part}_holds": pl.Int64}
TESTED = {
    "goal": pl.String,
    "run": pl.String,
    "L0": pl.Int64,
    "order": pl.String,
    "remedy": pl.String,
    "mode": pl.String,
}
TESTED |= {"verdict": pl.String, "step": pl.Int64, "against": pl.String}
TESTED |= dict.fromkeys(("effect", "lo", "hi", "threshold"), pl.Float64) | {"unit": pl.String}


@dataclass(frozen=True)
class GoalCell:
    """One tested condition of a goal: `effect` must lie above `threshold`."""

    step: int
    against: str
    effect: Effect
    threshold: float
    unit: str = DB

    @property
    def verdict(self) -> str:
        return self.effect.verdict(+1, self.threshold)


def tried(remedies: dict[str, Remedy]) -> list[Remedy]:
    """The remedies proper: neither vanilla nor a control."""
    return [remedy for name, remedy in remedies.items() if name not in RESERVED]


def claims_frame(ev: RemedyEvidence, differences: pl.DataFrame) -> pl.DataFrame:
    """remedies_claims.parquet: claim, remedy, statement, verdict, reason, counts of cells; as claims_summary.parquet.

    And for each of the three parts (vanilla, subset_random, within): its verdict, its cells, and how many of them hold.
    """
    rows = []
    for number, remedy in enumerate(tried(ev.remedies), start=FIRST_CLAIM):
        here = differences.filter(remedy=remedy.name)
        beyond = here.filter(pl.col("test") == ABOVE, pl.col("factor") >= BEYOND)
        parts = {against: beyond.filter(against=against) for against in PARTS[:2]}
        parts[WITHIN] = here.filter(test=WITHIN, against=VANILLA)
        count = _count(pl.concat(parts.values()))
        verdicts = {part: claim_verdict(_count(cells)) for part, cells in parts.items()}
        row = {
            "claim": f"C{number}",
            "remedy": remedy.name,
            "statement": f"{remedy.name} beats vanilla and a random subset beyond the training length, and changes nothing up to it",
            "verdict": worst_of(verdicts.values()),
            "reason": "one seed says nothing about the spread between trainings" if len(ev.params.seeds) < 2 else None,
            "cells": sum(count.values()),
            "holds": count[HOLDS],
            "does_not_hold": count[FAILS],
            "not_shown": count[OPEN],
            "not_testable": count[UNTESTABLE],
        }
        for part, cells in parts.items():
            row |= {f"{part}_verdict": verdicts[part]}
            row |= {f"{part}_cells": len(cells), f"{part}_holds": len(cells.filter(verdict=HOLDS))}
        rows.append(row)
    return pl.DataFrame(rows, schema=CLAIMS)


def _count(cells: pl.DataFrame) -> dict[str, int]:
    verdicts = cells["verdict"].to_list()
    return {word: verdicts.count(word) for word in (HOLDS, FAILS, OPEN, UNTESTABLE)}


def worst_of(verdicts: Iterable[str]) -> str:
    """The verdict of what must hold together."""
    found = set(verdicts)
    return next((word for word in (FAILS, UNTESTABLE, OPEN, HOLDS_IN_PART) if word in found), HOLDS)


def goals_frame(ev: RemedyEvidence, differences: pl.DataFrame) -> pl.DataFrame:
    """remedies_goals.parquet: one row for each goal, run, order and remedy: its verdict, and its worst cell.

    verdict: holds if every cell does; does not hold if one is shown to be the other way round; not shown otherwise. The worst
    cell is, of those with that verdict, the one whose effect lies lowest against its threshold: step, against, effect, lo, hi,
    threshold, unit (dB, or 1 for a share).
    """
    rows = []
    for run in ev.L0:
        for order in ev.params.extension.orders:
            for remedy in tried(ev.remedies):
                tests = {
                    "never_falls": list(_never_falls(ev, run, order, remedy.name)),
                    "beats_controls": list(_beats(ev, run, order, remedy.name)),
                    "recovers": list(_recovers(ev, run, order, remedy.name)),
                    "keeps_level": list(_keeps_level(ev, run, order, remedy.name)),
                }
                about = {"run": run, "L0": ev.L0[run], "order": order, "remedy": remedy.name, "mode": remedy.mode}
                rows.append({"goal": "no_loss"} | about | _no_loss(differences, run, order, remedy.name))
                rows += [{"goal": goal} | about | _worst(cells) for goal, cells in tests.items() if cells]
    place = pl.col("goal").replace_strict(list(GOALS), range(len(GOALS)), return_dtype=pl.Int64)
    return pl.DataFrame(rows, schema=TESTED).sort(place, maintain_order=True)


def _worst(cells: list[GoalCell]) -> dict[str, object]:
    verdict = worst_of(cell.verdict for cell in cells)
    worst = min((c for c in cells if c.verdict == verdict), key=lambda cell: cell.effect.effect - cell.threshold)
    return {
        "verdict": verdict,
        "step": worst.step,
        "against": worst.against,
        "effect": worst.effect.effect,
        "lo": worst.effect.lo,
        "hi": worst.effect.hi,
        "threshold": worst.threshold,
        "unit": worst.unit,
    }


def _no_loss(differences: pl.DataFrame, run: str, order: str, remedy: str) -> dict[str, object]:
    cells = differences.filter(run=run, order=order, remedy=remedy, test=WITHIN)
    worst = cells.sort(pl.col("effect").abs()).row(-1, named=True)
    named = {key: worst[key] for key in ("step", "against", "effect")} | {
        "lo": worst["effect_lo"],
        "hi": worst["effect_hi"],
    }
    return {"verdict": worst_of(cells["verdict"])} | named | {"threshold": None, "unit": DB}


def _never_falls(ev: RemedyEvidence, run: str, order: str, remedy: str) -> Iterator[GoalCell]:
    """PSNR(T) against the best PSNR between L0 and T."""
    best: list[int] | None = None
    for step in (t for t in ev.readings.steps(run) if t >= ev.L0[run]):
        columns = ev.readings.of(run, order, remedy, step)
        if columns is None:
            continue
        if best is not None:
            yield GoalCell(step, "itself at its best so far", ev.bootstrap.difference(columns, best), -FALL_DB)
        level = ev.bootstrap.psnr
        if best is None or level[columns].mean() > level[best].mean():
            best = columns


def _beats(ev: RemedyEvidence, run: str, order: str, remedy: str) -> Iterator[GoalCell]:
    for step in (t for t in ev.readings.steps(run) if t >= BEYOND * ev.L0[run]):
        columns = ev.readings.of(run, order, remedy, step)
        for rival in RIVALS:
            if columns and (other := ev.readings.of(run, order, rival, step)):
                yield GoalCell(step, rival, ev.bootstrap.difference(columns, other), 0.0)


def _recovers(ev: RemedyEvidence, run: str, order: str, remedy: str) -> Iterator[GoalCell]:
    """(remedy(T) - run(L0)) / (longer generalist at its L0 - run(L0)), where that gap is shown."""
    longer = longer_generalist(ev.params, run)
    if longer is None:
        return
    low = ev.readings.of(run, order, VANILLA, ev.L0[run])
    high = ev.readings.of(longer, order, VANILLA, ev.L0[longer])
    if not low or not high or ev.bootstrap.difference(high, low).verdict(+1) != HOLDS:
        return
    for step in (t for t in ev.readings.steps(run) if t >= ev.L0[longer]):
        if columns := ev.readings.of(run, order, remedy, step):
            share = ev.bootstrap.gap_closed(columns, low, high)
            yield GoalCell(step, f"{longer} at L0 = {ev.L0[longer]}", share, SHARE, RATIO)


def _keeps_level(ev: RemedyEvidence, run: str, order: str, remedy: str) -> Iterator[GoalCell]:
    """Where most has been read by L0: the runs with the longest L0."""
    if ev.L0[run] < max(ev.L0.values()):
        return
    last = max(ev.readings.steps(run))
    at, start = ev.readings.of(run, order, remedy, last), ev.readings.of(run, order, remedy, ev.L0[run])
    if at and start and last > ev.L0[run]:
        yield GoalCell(last, AT_L0, ev.bootstrap.difference(at, start), -LEVEL_DB)


def longer_generalist(params: Params, run: str) -> str | None:
    """Of the runs that remedies are tried on, the plain generalist with the next longer L0 than that of a run."""
    runs = params.runs_by_name()
    longer = [n for n in params.extension.runs if kind_of(runs[n]) == GENERALIST and runs[n].L0 > runs[run].L0]
    return min(longer, key=lambda name: runs[name].L0) if longer else None

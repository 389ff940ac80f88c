"""What the retention maps show, in two sentences for each of the first runs that a comparison is about."""

import math

import polars as pl

from lgmamba.analysis.families import families, several_mixers
from lgmamba.analysis.shown import drawn_runs
from lgmamba.config.study import Params
from lgmamba.report.wording import listed, number

MOST = 4
"""Runs that are told of in sentences; a reader does not compare more of them."""
WITH_MORE = 2
"""The same on a page that tells of classes, or of many mixers, as well."""


def described_runs(params: Params) -> list[str]:
    """Longest specialist, generalist and length-adaptive run of each family, of those that are shown; without any, all that are. The
    first few of them.
    """
    runs = []
    for family in families(params):
        longest = [family.specialists[max(family.specialists)]] if family.specialists else []
        runs += [*longest, family.generalist, family.adaptive]
    drawn = drawn_runs(params)
    most = WITH_MORE if params.names_classes or several_mixers(params) else MOST
    return ([run for run in dict.fromkeys(runs) if run in drawn] or drawn)[:most]


def strategy_sentences(retention: pl.DataFrame, runs: list[str], far: float) -> list[str]:
    """What each run remembers and how that changes beyond L0.

    Args:
        retention: figure_retention, ages in octaves.
        runs: the runs described, in order.
        far: multiple of L0 at which forgetting is described.
    """
    return [_sentences(retention.filter(pl.col("run") == run), run, far) for run in runs]


def _sentences(maps: pl.DataFrame, run: str, far: float) -> str:
    L0 = maps["L0"][0]
    steps = maps["step"].unique().to_list()
    early, late = min(steps, key=lambda t: (abs(math.log(4 * t / L0)), t)), round(far * L0)
    first = [f"{number(mse, 4)} {_where(low, high)}" for low, high, mse in _ends(maps, early)]
    text = f"`{run}`: at t = {early}, before its L0 = {L0}, the squared error is {listed(first)}."
    after = {low: mse for low, _, mse in _at(maps, late)}
    change = [
        f"from {number(mse, 4)} to {number(after[low], 4)} {_where(low, high)}"
        for low, high, mse in _ends(maps, L0)
        if low in after and low >= 0
    ]
    return text + (f" Between t = L0 and t = {late} it goes {listed(change)}." if change else "")


def _at(maps: pl.DataFrame, step: int) -> list[tuple[int, int, float]]:
    """(age_low, age_high, error) at one step, by age."""
    return maps.filter(pl.col("step") == step).sort("age_low").select("age_low", "age_high", "mse").rows()


def _ends(maps: pl.DataFrame, step: int) -> list[tuple[int, int, float]]:
    """The patch just read, those read longest ago, and what was not read; as far as there are such cells."""
    rows = _at(maps, step)
    read = [row for row in rows if row[0] >= 0]
    return list(dict.fromkeys([*read[:1], *read[-1:], *(row for row in rows if row[0] < 0)]))


def _where(low: int, high: int) -> str:
    if low < 0:
        return "where nothing was read"
    return "at the patch just read" if low == 0 else f"at patches read {low}\u2013{high} steps ago"

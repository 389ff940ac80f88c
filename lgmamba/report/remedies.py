"""What the report says about remedies, as plain values and sentences from their frames, whatever they turned out to be."""

from pathlib import Path
from typing import Any

import polars as pl

from lgmamba.analysis.remedies import AT_L0, VANILLA
from lgmamba.analysis.remedies.claims import BEYOND, GOALS
from lgmamba.analysis.remedies.frames import ABOVE, AGAINST, WITHIN
from lgmamba.analysis.statistics import FAILS, HOLDS
from lgmamba.config.remedies import RESERVED
from lgmamba.config.study import Params
from lgmamba.report.remedy_kinds import kind_facts
from lgmamba.report.words import duration, interval, listed, number, plural, signed

PERFECT = 100.0  # dB; better is an exact copy
NO_BREAK = "\u00a0"
READ = ("claims", "goals", "cost", "lengths", "differences", "memory")


def remedy_facts(params: Params, frames: Path) -> dict[str, Any]:
    """Everything that the report says about remedies.

    Args:
        params: a study that tries remedies.
        frames: folder written by `evaluate`.
    """
    found = {name: pl.read_parquet(frames / f"remedies_{name}.parquet") for name in READ}
    levels, drawn = pl.read_parquet(frames / "remedies.parquet"), pl.read_parquet(frames / "figure_remedies.parquet")
    far = max(params.extension.factors)
    order = drawn["remedy"].unique(maintain_order=True).to_list()
    order += [name for name in levels["remedy"].unique(maintain_order=True) if name not in order]
    orders = listed(f"`{name}`" for name in params.extension.orders)
    repeats = params.extension.repeats
    return {
        "sample": f"{plural(levels['n_images'].min(), f'{params.probe.split} image')}"
        + (f", {repeats} visiting orders an image" if repeats > 1 else "")
        + f", {plural(levels['n_seeds'].min(), 'seed')}, order{'s' if len(params.extension.orders) > 1 else ''} {orders}",
        "factors": [f for f in sorted(set(params.extension.factors) | {1.0})],
        "far": far,
        "far_db": far_levels(levels.filter(pl.col("factor") == far)),
        "tables": [
            _table(run, order_, levels, found, order)
            for run, order_ in levels.select("run", "order").unique(maintain_order=True).rows()
        ],
        "claims": found["claims"].to_dicts(),
        "goals": goal_facts(found["goals"], found["lengths"], far),
        "kinds": kind_facts(found, drawn, params, far),
        "sentences": best_sentences(drawn, found["differences"], far),
        "calibration": calibration_sentence(params, found["cost"]),
        "identity": found["cost"].filter(pl.col("remedy").is_in(RESERVED).not_())["identity"].max(),
    }


def far_levels(levels: pl.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """{run: {order: {remedy: PSNR in dB}}}; without the ideal memory."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for run, order, remedy, psnr in levels.select("run", "order", "remedy", "psnr").rows():
        if remedy != "paste":
            result.setdefault(run, {}).setdefault(order, {})[remedy] = psnr
    return result


def _table(
    run: str, order: str, levels: pl.DataFrame, found: dict[str, pl.DataFrame], names: list[str]
) -> dict[str, Any]:
    """One table: every remedy and control of one run, read in one order."""
    here = levels.filter(pl.col("run") == run, pl.col("order") == order)
    differences = found["differences"].filter(pl.col("run") == run, pl.col("order") == order)
    cost = {
        row["remedy"]: row for row in _cost_over_seeds(found["cost"].filter(pl.col("run") == run)).iter_rows(named=True)
    }
    rows = []
    for name in (name for name in names if name in cost):
        psnr = {row["factor"]: row for row in here.filter(pl.col("remedy") == name).iter_rows(named=True)}
        mine = differences.filter(pl.col("remedy") == name)
        rows.append(
            cost[name]
            | {
                "calibration": _calibration(cost[name]),
                "psnr": {f: _level(r) for f, r in psnr.items()},
                "change": _change(mine, name),
                "beats": beaten(mine),
            }
        )
    return {"run": run, "order": order, "L0": here["L0"][0], "rows": rows}


def _level(row: dict[str, Any]) -> str:
    """PSNR with its interval; that of a copy without errors is infinite."""
    if row["psnr_hi"] >= PERFECT:
        return "no error" if row["psnr"] >= PERFECT else number(row["psnr"])
    return f"{number(row['psnr'])} [{number(row['psnr_lo'])},{NO_BREAK}{number(row['psnr_hi'])}]"


def _cost_over_seeds(cost: pl.DataFrame) -> pl.DataFrame:
    return cost.group_by("remedy", maintain_order=True).agg(
        pl.col("kind", "control", "mode", "words", "calibration_images").first(),
        pl.col("calibration_passes", "calibration_s", "read_relative").mean(),
        pl.col("identity").max(),
    )


def _calibration(cost: dict[str, Any]) -> str:
    if cost["calibration_passes"] is None:
        return "\u2013"
    seconds = duration(cost["calibration_s"]) if cost["calibration_s"] >= 0.05 else "under 0.1 s"
    return f"{cost['calibration_passes']:g} passes, {seconds}"


def _change(mine: pl.DataFrame, name: str) -> str:
    """The largest difference from vanilla at T <= L0."""
    cells = mine.filter(test=WITHIN, against=VANILLA)
    if name in (VANILLA, "paste") or cells.is_empty():
        return "\u2013"
    worst = cells.sort(pl.col("effect").abs()).row(-1, named=True)["effect"]
    return "none" if abs(worst) < 0.005 else f"{signed(worst)} dB"


def beaten(mine: pl.DataFrame) -> str:
    """Whom of vanilla and the controls a remedy is shown to be above at every T >= 2 L0."""
    beyond = mine.filter(pl.col("test") == ABOVE, pl.col("factor") >= BEYOND)
    rivals = [rival for rival in AGAINST if rival in set(beyond["against"])]
    won = [rival for rival in rivals if (beyond.filter(against=rival)["verdict"] == HOLDS).all()]
    lost = [rival for rival in rivals if rival not in won]
    if not won:
        return "none"
    if not lost:
        return "all"
    names = ", ".join(name.replace("_", " ") for name in min(won, lost, key=len))
    return f"all but {names}" if len(lost) < len(won) else names


def goal_facts(goals: pl.DataFrame, lengths: pl.DataFrame, far: float) -> list[dict[str, Any]]:
    """For each goal: its words, and one line for each run and order: who reaches it, or who comes closest."""
    facts = []
    for goal, cells in goals.group_by("goal", maintain_order=True):
        settings = cells.select("run", "order").unique(maintain_order=True).rows()
        tried = cells["remedy"].unique(maintain_order=True).to_list()
        lines, reached = [], []
        for run, order in settings:
            here = cells.filter(pl.col("run") == run, pl.col("order") == order)
            names = here.filter(pl.col("verdict") == HOLDS)["remedy"].to_list()
            reached.append(set(names))
            words = _names(names, tried) if names else f"none; {_closest(here)}"
            lines.append({"run": run, "order": order, "words": words, "reached": bool(names)})
        everywhere = [name for name in tried if all(name in names for names in reached)]
        facts.append(
            {
                "goal": goal[0],
                "words": GOALS[goal[0]],
                "lines": lines if everywhere != tried else [],
                "settings": len(settings),
                "reached": sum(line["reached"] for line in lines),
                "everywhere": _names(everywhere, tried) if everywhere else "",
                "writes": written_sentence(lengths, everywhere, far) if goal[0] == "keeps_level" else "",
            }
        )
    return facts


def _names(names: list[str], tried: list[str]) -> str:
    return "all of them" if names == tried else listed(f"`{name}`" for name in names)


def _closest(here: pl.DataFrame) -> str:
    """The remedy whose worst cell lies highest; one that is shown to miss the goal only where all are."""
    best = here.sort(pl.col("verdict") != FAILS, "effect", maintain_order=True).row(-1, named=True)
    if best["unit"] == "dB":
        size = f"{signed(best['effect'])} dB {interval(best['lo'], best['hi'], 'dB')}"
    else:
        size = f"{number(100 * best['effect'], 0)} % [{number(100 * best['lo'], 0)}, {number(100 * best['hi'], 0)}]"
    return f"closest is `{best['remedy']}`: {size} against {best['against']} at t = {best['step']} ({best['verdict']})"


def written_sentence(lengths: pl.DataFrame, names: list[str], far: float) -> str:
    """How much of what comes after L0 is still written, so that holding the level is no freezing."""
    here = lengths.filter(pl.col("remedy").is_in(names), pl.col("factor") == far, pl.col("written_share").is_not_null())
    parts = [
        f"`{name[0]}` {number(100 * rows['written_share'].mean(), 0)} % of them, with "
        f"{number(100 * rows['step_size_share'].mean(), 0)} % of vanilla's step sizes"
        for name, rows in here.group_by("remedy", maintain_order=True)
    ]
    return f"Steps after L0 that are written at {far:g} \u00d7 L0: {listed(parts)}." if parts else ""


def best_sentences(drawn: pl.DataFrame, differences: pl.DataFrame, far: float) -> list[str]:
    """For each run and order, the best remedy at the longest T against its level at L0, vanilla and the best control there."""
    sentences = []
    at_far = drawn.filter(pl.col("factor") == far)
    for (run, order), rows in at_far.group_by("run", "order", maintain_order=True):
        remedies = rows.filter(pl.col("rank").is_not_null()).sort("psnr", descending=True)
        if remedies.is_empty():
            continue
        best = remedies.row(0, named=True)
        control = rows.filter(pl.col("rank").is_null(), pl.col("remedy") != VANILLA).sort("psnr").row(-1, named=True)
        against = {
            row["against"]: row
            for row in differences.filter(
                pl.col("run") == run,
                pl.col("order") == order,
                pl.col("remedy") == best["remedy"],
                pl.col("factor") == far,
            ).iter_rows(named=True)
        }
        parts = [
            f"{signed(against[name]['effect'])} dB {interval(against[name]['effect_lo'], against[name]['effect_hi'], 'dB')} {words}"
            for name, words in (
                (AT_L0, "from its level at L0"),
                (VANILLA, "from vanilla"),
                (control["remedy"], f"from the best control, `{control['remedy']}`"),
            )
            if name in against
        ]
        sentences.append(
            f"`{run}` (L0 = {best['L0']}), order `{order}`, at {far:g} \u00d7 L0: the best remedy is `{best['remedy']}` with "
            f"{number(best['psnr'])} dB, {listed(parts)}."
        )
    return sentences


def calibration_sentence(params: Params, cost: pl.DataFrame) -> str:
    """What calibration had to work with, and what it took."""
    calibrated = cost.drop_nulls("calibration_passes")
    if calibrated.is_empty():
        return "Nothing is calibrated."
    per_run = calibrated.group_by("run", "seed").agg(pl.col("calibration_s").sum())["calibration_s"]
    images = calibrated["calibration_images"].max()
    return (
        f"Values are found on {plural(images, 'image')} of the calibration split, half to optimise on and half to keep the best by, "
        f"for each checkpoint apart; a pass reads those that it needs once. All calibrations of one checkpoint take "
        f"{duration(per_run.mean())}."
    )


def remedy_headline(facts: dict[str, Any]) -> dict[str, Any]:
    """What the README shows of it."""
    return {
        "sample": facts["sample"],
        "tried": len(facts["claims"]),
        "sentences": facts["sentences"],
        "goals": [{key: g[key] for key in ("words", "everywhere", "settings", "reached")} for g in facts["goals"]],
        "claims": [
            {key: c[key] for key in ("claim", "remedy", "verdict", "holds", "cells", "not_testable")}
            for c in facts["claims"]
        ],
    }

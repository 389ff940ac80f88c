"""What the report says about remedies, as plain values and sentences from their frames, whatever they turned out to be."""

from pathlib import Path
from typing import Any

import polars as pl

from lgmamba.analysis.frames import of_accuracy
from lgmamba.analysis.numbers import greatest, least, mean
from lgmamba.analysis.remedies import AT_L0, BEST_CONTROL, VANILLA
from lgmamba.analysis.shown import shown_rows
from lgmamba.config.remedies import ORACLES, RESERVED
from lgmamba.config.study import Params
from lgmamba.explorer import link
from lgmamba.metrics import ACCURACY, Metric
from lgmamba.report.remedy_kinds import kind_context
from lgmamba.report.wording import duration, interval, listed, number, plural, signed

PERFECT = 100.0  # dB, or per cent: an exact answer
READ = ("cost", "lengths", "differences", "memory")

CLAIMED = "what is claimed of remedies is among the primary contrasts above"
NOT_CLAIMED = "no primary contrast is of a remedy"


def remedy_context(params: Params, frames: Path) -> dict[str, Any]:
    """Everything that the report says about remedies.

    Args:
        params: a study that tries remedies.
        frames: folder written by `evaluate`.
    """
    read = READ if params.task.TIED else [name for name in READ if name != "memory"]
    found = {name: pl.read_parquet(frames / f"remedies_{name}.parquet") for name in read}
    levels, figure_data = (
        pl.read_parquet(frames / "remedies.parquet"),
        pl.read_parquet(frames / "figure_remedies.parquet"),
    )
    far, metric = max(params.the_remedy_evaluation.length_ratios), params.task.METRICS[0]
    order = figure_data["remedy"].unique(maintain_order=True).to_list()
    order += [name for name in levels["remedy"].unique(maintain_order=True) if name not in order]
    orders = listed(f"`{name}`" for name in params.the_remedy_evaluation.orders)
    repeats = params.the_remedy_evaluation.repeats
    one, each = ("image", "visiting orders an image") if params.task.IMAGES else ("sample", "sequences a sample")
    return {
        "sample": f"{plural(int(least(levels['n_images'])), f'{params.evaluation.split} {one}')}"
        + (f", {repeats} {each}" if repeats > 1 else "")
        + f", {plural(int(least(levels['n_seeds'])), 'seed')}, order{'s' if len(params.the_remedy_evaluation.orders) > 1 else ''} {orders}",
        "controls": describe_controls(found["cost"]),
        "factors": [f for f in sorted(set(params.the_remedy_evaluation.length_ratios) | {1.0})],
        "far": far,
        "far_levels": far_levels(levels.filter(pl.col("factor") == far)),
        "tables": [
            _table(run, order_, levels, found, order, metric)
            for run, order_ in levels.select("run", "order").unique(maintain_order=True).rows()
        ],
        "claims": CLAIMED if any(contrast.of.treated for contrast in params.claims.primary) else NOT_CLAIMED,
        "tried": figure_data.filter(pl.col("rank").is_not_null())["remedy"].n_unique(),
        "views": best_views(params, shown_rows(params, "remedies", figure_data), far),
        "best": next(iter(figure_data.filter(rank=1)["remedy"]), None),
        "kinds": kind_context(found, figure_data, params, far),
        "sentences": best_sentences(shown_rows(params, "remedies", figure_data), found["differences"], far, metric),
        "calibration": calibration_sentence(params, found["cost"]),
        "identity": found["cost"].filter(pl.col("remedy").is_in(RESERVED).not_())["identity"].max(),
    }


def describe_controls(cost: pl.DataFrame) -> list[tuple[str, str]]:
    """Name and words of what remedies are compared with."""
    return cost.filter("control").unique("remedy", maintain_order=True).select("remedy", "words").rows()


def far_levels(levels: pl.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """{run: {order: {remedy: level}}}; without the ideal memory."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for run, order, remedy, psnr in levels.select("run", "order", "remedy", "psnr").rows():
        if remedy not in ORACLES:
            result.setdefault(run, {}).setdefault(order, {})[remedy] = psnr
    return result


def _table(
    run: str, order: str, levels: pl.DataFrame, found: dict[str, pl.DataFrame], names: list[str], metric: Metric
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
                "change": _change(mine, name, metric.difference_unit),
                "ahead": _ahead(mine, max(factor for factor in psnr)),
            }
        )
    return {"run": run, "order": order, "L0": here["L0"][0], "rows": rows}


def _level(row: dict[str, Any]) -> str:
    """The level, or that nothing is wrong; and accuracy where a class is named."""
    text, accuracy = "no error" if row["psnr"] >= PERFECT else number(row["psnr"]), row.get("accuracy")
    return text if accuracy is None else f"{text} / {number(accuracy, 1)}"


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


def _change(mine: pl.DataFrame, name: str, unit: str) -> str:
    """The largest difference from vanilla at T <= L0; and of accuracy where a class is named."""
    cells = mine.filter(pl.col("factor") <= 1, against=VANILLA)
    if name in (VANILLA, *ORACLES) or cells.is_empty():
        return "\u2013"
    units = {"effect": unit} | ({EFFECT: ACCURACY.difference_unit} if _names_classes(cells) else {})
    worst = {name: cells.sort(pl.col(name).abs())[name][-1] for name in units}
    return " / ".join(
        "none" if abs(worst[name]) < 0.005 else f"{signed(worst[name])} {of_level}" for name, of_level in units.items()
    )


def _ahead(mine: pl.DataFrame, far: float) -> str:
    """Level minus the best control's at the longest T; and accuracy minus the best control's where a class is named."""
    row = mine.filter(pl.col("factor") == far, against=BEST_CONTROL)
    if row.is_empty():
        return "\u2013"
    names = ["effect", *([EFFECT] if _names_classes(row) else [])]
    found = [[row[f"{name}{end}"][0] for end in ("", "_lo", "_hi")] for name in names]
    return " / ".join(signed(effect) + ("" if lo is None else f" {interval(lo, hi, 'dB')}") for effect, lo, hi in found)


EFFECT = of_accuracy("effect")


def _names_classes(differences: pl.DataFrame) -> bool:
    return EFFECT in differences.columns and differences[EFFECT].null_count() == 0


def best_remedies(figure_data: pl.DataFrame, far: float) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """For each run and order, the best remedy at the longest T and the best control there, rows of figure_remedies."""
    found = []
    for _, rows in figure_data.filter(pl.col("factor") == far).group_by("run", "order", maintain_order=True):
        remedies = rows.filter(pl.col("rank").is_not_null()).sort("psnr", descending=True)
        controls = rows.filter(pl.col("rank").is_null(), pl.col("remedy") != VANILLA).sort("psnr")
        if not remedies.is_empty():
            found.append((remedies.row(0, named=True), controls.row(-1, named=True)))
    return found


def best_sentences(figure_data: pl.DataFrame, differences: pl.DataFrame, far: float, metric: Metric) -> list[str]:
    """For each run and order, the best remedy at the longest T against its level at L0, vanilla and the best control there."""
    sentences = []
    for best, control in best_remedies(figure_data, far):
        against = differences_of(best, differences)
        compared = (
            (AT_L0, "from its level at L0"),
            (VANILLA, "from the model as it is"),
            (control["remedy"], f"from the best control, `{control['remedy']}`"),
        )
        parts = [
            _difference(against[name], words, metric.difference_unit) for name, words in compared if name in against
        ]
        sentences.append(
            f"`{best['run']}` (L0 = {best['L0']}), order `{best['order']}`, at {far:g} \u00d7 L0: the best remedy is `{best['remedy']}` with "
            f"{number(best['psnr'])} {metric.unit}, {listed(parts)}."
            + _accuracy_sentence(best, [(against[name], words) for name, words in compared if name in against])
        )
    return sentences


def best_views(params: Params, figure_data: pl.DataFrame, far: float) -> list[str]:
    """For each of `best_sentences` the address at which the explorer shows it."""
    rows = [best for best, _ in best_remedies(figure_data, far)]
    return [link(params, [best["run"]], best["step"], best["remedy"], best["order"]) for best in rows]


def _accuracy_sentence(best: dict[str, Any], against: list[tuple[dict[str, Any], str]]) -> str:
    """The same of accuracy, of the remedy that is best by the task's own metric; nothing where no class is named."""
    if best.get("accuracy") is None:
        return ""
    rows = [
        ({name: row.get(of_accuracy(name)) for name in ("effect", "effect_lo", "effect_hi")}, w) for row, w in against
    ]
    parts = [_difference(row, words, ACCURACY.difference_unit) for row, words in rows if row["effect"] is not None]
    return f" Its accuracy is {number(best['accuracy'], 1)} %, {listed(parts)}."


def differences_of(best: dict[str, Any], differences: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """{what a remedy is compared with: row of remedies_differences}, of one row of figure_remedies."""
    same = [pl.col(name) == best[name] for name in ("run", "order", "remedy", "factor")]
    return {row["against"]: row for row in differences.filter(*same).iter_rows(named=True)}


def _difference(row: dict[str, Any], words: str, unit: str) -> str:
    where = "" if row["effect_lo"] is None else f" {interval(row['effect_lo'], row['effect_hi'], 'dB')}"
    return f"{signed(row['effect'])} {unit}{where} {words}"


def calibration_sentence(params: Params, cost: pl.DataFrame) -> str:
    """What calibration had to work with, and what it took."""
    calibrated = cost.drop_nulls("calibration_passes")
    if calibrated.is_empty():
        return "Nothing is calibrated."
    per_run = calibrated.group_by("run", "seed").agg(pl.col("calibration_s").sum())["calibration_s"]
    images, one = int(greatest(calibrated["calibration_images"])), "image" if params.task.IMAGES else "sample"
    return (
        f"Values are found on {plural(images, one)} of the calibration split, half to optimise on and half to keep the best by, "
        f"for each checkpoint apart; a pass reads those that it needs once. All calibrations of one checkpoint take "
        f"{duration(mean(per_run))}."
    )


def remedy_headline(context: dict[str, Any]) -> dict[str, Any]:
    """What the README shows of it."""
    return {
        "sample": context["sample"],
        "tried": context["tried"],
        "sentences": context["sentences"],
    }

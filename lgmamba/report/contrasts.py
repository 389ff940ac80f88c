"""What the report says about the primary contrasts, as plain values from their frame."""

import datetime
from collections.abc import Mapping
from typing import Any

import polars as pl

from lgmamba.analysis.contrasts import DESCRIBED, OPPOSITE, POWER, SAME, SHOWN, SMALL, UNDECIDED, UNTESTABLE, VERDICTS
from lgmamba.report.wording import DIGITS, effect, interval, listed, number, plain_text, plural, probability

UP_TO_L0 = (" at to L0", " up to L0")
"""What kept frames say of a side whose lengths are `to L0`, the key's words, and what pages say."""
MANY = 12
"""Primary contrasts up to which each is a sentence of the answer; more are a table."""
MOST = 24
"""Rows of that table; of more contrasts it has those that are shown, as claimed or the opposite, and the second page has all."""
MEANINGS = {
    SHOWN: "the interval lies on the claimed side, and the effect is at least the margin",
    SMALL: "the interval lies on the claimed side, but the effect is below the margin",
    OPPOSITE: "the interval lies on the other side",
    SAME: "the interval lies within the margin on both sides",
    UNDECIDED: "none of these",
    DESCRIBED: "too few trainings for a verdict",
    UNTESTABLE: "a number is missing",
}


def contrast_context(
    contrasts: pl.DataFrame, fixed: datetime.date | None, units: str | Mapping[str, str]
) -> dict[str, Any]:
    """Sentences and rows of the primary contrasts.

    Args:
        contrasts: columns of `lgmamba.analysis.contrasts.SCHEMA`.
        fixed: day on which they were written down; None: exploratory.
        units: of the differences; of all contrasts, or contrast -> its own.

    Returns:
        rows: one mapping for each contrast, with `sentence` (claim, verdict and numbers in words), and `unit` where each has its own
        and it is not dB; counts: verdicts in words; signs: where all of many are described, how many effects have the claimed sign,
        and which have not; verdicts: those that occur, with their meaning; fixed: day on which they were fixed, or None; many:
        whether they are a table, and `table`, its rows.
    """
    unit_of = {name: units if isinstance(units, str) else units[name] for name in contrasts["name"]}
    rows = [
        row
        | {"claim": plain_text(row["claim"])}
        | {side: None if row[side] is None else row[side].replace(*UP_TO_L0) for side in ("of", "minus")}
        | {"sentence": sentence(row, unit_of[row["name"]])}
        | ({} if isinstance(units, str) or unit_of[row["name"]] == "dB" else {"unit": unit_of[row["name"]]})
        for row in contrasts.to_dicts()
    ]
    found = [row["verdict"] for row in rows]
    counts = [f"{found.count(word)} {word}" for word in VERDICTS if word in found]
    return {
        "rows": rows,
        "counts": f"Of {plural(len(rows), 'primary contrast')}: {listed(counts)}." if rows else "",
        "signs": signs(rows) if len(rows) > MANY and set(found) == {DESCRIBED} else "",
        "verdicts": {word: MEANINGS[word] for word in VERDICTS if word in found},
        "fixed": None if fixed is None else fixed.isoformat(),
        "many": len(rows) > MANY,
        "table": rows if len(rows) <= MOST else [row for row in rows if row["verdict"] in (SHOWN, SMALL, OPPOSITE)],
        "power": f"{100 * POWER:g} %",
    }


def signs(rows: list[dict[str, Any]]) -> str:
    """How many effects have the sign that is claimed of them, in words; no verdict, however large they are."""
    sides = {"above": 1, "below": -1}
    wrong = [row["name"] for row in rows if sides[row["claimed"]] * row["effect"] <= 0]
    others = f"; not those of {listed(f'`{name}`' for name in wrong)}" if wrong else ""
    return f"{len(rows) - len(wrong)} of {len(rows)} effects have the claimed sign{others}."


def sentence(row: dict[str, Any], unit: str) -> str:
    """Verdict, effect, interval and trainings of one contrast, in words."""
    if row["effect"] is None:
        return f"{row['verdict']}: {row['reason']}."
    end = f" {unit}" if unit else ""
    scale = unit if unit in DIGITS else "dB"
    text = f"{row['verdict']}: {effect(row['effect'], scale)}{end}"
    if row["lo"] is not None:
        text += f" {interval(row['lo'], row['hi'], scale)}"
    level = " %" if unit == "pp" else end  # a difference of percentages has points
    sides = f"{number(row['of_level'], DIGITS[scale])} against {number(row['minus_level'], DIGITS[scale])}{level}"
    text += f", {plural(row['n_seeds'], 'training')} a side ({sides})"
    if (
        row["verdict"] == UNDECIDED and row["lo"] * row["hi"] > 0
    ):  # its own interval would decide; the correction does not let it
        p = probability(row["p_holm"])
        text += f"; p {p if p.startswith('<') else f'= {p}'} after Holm's correction"
    elif row["verdict"] == UNDECIDED:
        text += f"; these trainings could have shown {number(row['detectable'], DIGITS[scale])}{end}"
    return text + "."

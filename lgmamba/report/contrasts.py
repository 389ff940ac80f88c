"""What the report says about the primary contrasts, as plain values from their frame."""

from typing import Any

import polars as pl

from lgmamba.analysis.contrasts import DESCRIBED, OPPOSITE, POWER, SAME, SHOWN, SMALL, UNDECIDED, UNTESTABLE, VERDICTS
from lgmamba.config.claims import ClaimsConfig
from lgmamba.report.words import interval, listed, number, plain_text, plural, signed

MEANINGS = {
    SHOWN: "the interval lies on the claimed side, and the effect is at least the margin",
    SMALL: "the interval lies on the claimed side, but the effect is below the margin",
    OPPOSITE: "the interval lies on the other side",
    SAME: "the interval lies within the margin on both sides",
    UNDECIDED: "none of these",
    DESCRIBED: "too few trainings for a verdict",
    UNTESTABLE: "a number is missing",
}


def contrast_facts(contrasts: pl.DataFrame, claims: ClaimsConfig) -> dict[str, Any]:
    """Sentences and rows of the primary contrasts.

    Returns:
        rows: one mapping for each contrast, with `sentence` (claim, verdict and numbers in words); counts: verdicts in
        words; verdicts: those that occur, with their meaning; fixed: day on which they were fixed, or None.
    """
    rows = [row | {"claim": plain_text(row["claim"]), "sentence": sentence(row)} for row in contrasts.to_dicts()]
    found = [row["verdict"] for row in rows]
    counts = [f"{found.count(word)} {word}" for word in VERDICTS if word in found]
    return {
        "rows": rows,
        "counts": f"Of {plural(len(rows), 'primary contrast')}: {listed(counts)}." if rows else "",
        "verdicts": {word: MEANINGS[word] for word in VERDICTS if word in found},
        "fixed": None if claims.fixed is None else claims.fixed.isoformat(),
        "power": f"{100 * POWER:g} %",
    }


def sentence(row: dict[str, Any]) -> str:
    """Verdict, effect, interval and trainings of one contrast, in words."""
    if row["effect"] is None:
        return f"{row['verdict']}: {row['reason']}."
    text = f"{row['verdict']}: {signed(row['effect'])} dB"
    if row["lo"] is not None:
        text += f" {interval(row['lo'], row['hi'], 'dB')}"
    text += f", {plural(row['n_seeds'], 'training')} a side ({number(row['of_level'])} against {number(row['minus_level'])} dB)"
    if row["verdict"] == UNDECIDED:
        text += f"; these trainings could have shown {number(row['detectable'])} dB"
    return text + "."

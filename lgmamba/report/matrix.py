"""The matrix of `lgmamba.analysis.matrix` in Markdown: with numbers for docs/other_tasks.md, as signs for README.md."""

from collections.abc import Callable
from typing import Any

import polars as pl

from lgmamba.analysis.contrasts import DESCRIBED, OPPOSITE, SAME, SHOWN, SMALL, UNDECIDED, UNTESTABLE
from lgmamba.analysis.matrix import FACTOR, FORMS, WORDS
from lgmamba.report.wording import listed, plural, signed
from lgmamba.tasks.configs import kinds

SIGNS = {SHOWN: "+", SMALL: "+", OPPOSITE: "−", SAME: "=", UNDECIDED: "?", DESCRIBED: "few"}
"""Of verdicts, in the table of signs."""


def matrix_table(found: pl.DataFrame) -> str:
    """Studies by remedies, then what is not there and why, of frames as `matrix_frame` gives them."""
    studies = _studies(found)
    lines = _grid(found, lambda s: f"{s['task']}: [`{s['study']}`](../reports/{s['study']}/report.md)", "---", _cell)
    units = {
        unit: [study["study"] for study in studies if study["unit"] == unit]
        for unit in dict.fromkeys(s["unit"] for s in studies)
    }
    said = "; ".join(f"{unit} in {listed(f'`{name}`' for name in names)}" for unit, names in units.items())
    lines += [
        "",
        f"At {FACTOR:g} L0, on Mamba-1: level with the remedy minus that of the best control of each training, with intervals over "
        f"trainings; {said}. Verdicts as for [claims](claims.md), with Holm's correction over all cells that have one; a study with fewer "
        "trainings than it asks for (`claims.seeds`) has none.",
    ]
    refused = found.filter(pl.col("reason").str.starts_with("refused: "))
    by_task = refused.group_by("task", "reason", maintain_order=True).agg("remedy")
    for task, reason, remedies in by_task.iter_rows():
        lines += ["", f"Refused for `{task}`: {', '.join(remedies)}; {reason.removeprefix('refused: ')}."]
    if without := [name for name in kinds() if name not in set(found["task"])]:
        lines += ["", f"No study with remedies is kept of {listed(f'`{task}`' for task in without)}."]
    return "\n".join(lines)


def matrix_signs(found: pl.DataFrame) -> str:
    """Studies by remedies as one sign each, and what the signs say."""
    lines = _grid(found, lambda s: f"{s['task']}: [{s['study']}](reports/{s['study']}/report.md)", ":---:", _sign)
    lines += [
        "",
        f"At {FACTOR:g} L0, on Mamba-1, against the best control: + better, also where by less than the margin, − worse, = no difference, "
        "? undecided after Holm's correction, few: too few trainings for a verdict, n/a: refused for this task, empty: not tried.",
    ]
    return "\n".join(lines)


BLOCKS = {"matrix": matrix_table, "matrix_signs": matrix_signs}
"""What a page may have, by the name of the generated block."""


def _studies(found: pl.DataFrame) -> list[dict[str, Any]]:
    """A row of each study, in their order."""
    return found.unique("study", maintain_order=True).to_dicts()


Row = dict[str, Any]


def _grid(found: pl.DataFrame, name: Callable[[Row], str], rule: str, cell: Callable[[Row], str]) -> list[str]:
    """Lines of a table: a row for each study, of which there are more, and a column for each remedy."""
    lines = [f"| | {' | '.join(form.title for form in FORMS)} |", f"| --- |{f' {rule} |' * len(FORMS)}"]
    for study in _studies(found):
        rows = [found.filter(study=study["study"], remedy=form.title).row(0, named=True) for form in FORMS]
        lines.append(f"| {name(study)} | {' | '.join(map(cell, rows))} |")
    return lines


def _sign(row: dict[str, Any]) -> str:
    if row["verdict"] == UNTESTABLE:
        return "n/a" if row["reason"].startswith("refused") else ""
    return SIGNS[row["verdict"]]


def _cell(row: dict[str, Any]) -> str:
    """better, +0.31 [+0.12, +0.50]; or why there is no verdict."""
    if row["verdict"] == UNTESTABLE:
        return "refused" if row["reason"].startswith("refused") else row["reason"]
    number = signed(row["effect"], row["digits"])
    if row["lo"] is not None:
        number += f" [{signed(row['lo'], row['digits'])}, {signed(row['hi'], row['digits'])}]"
    word = plural(row["n_seeds"], "training") if row["verdict"] == DESCRIBED else WORDS[row["verdict"]]
    return f"{word}, {number}"

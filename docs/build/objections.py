"""What was objected to this project's claims, what was done, and the number that came out: a table in docs/claims.md.

    python docs/build/objections.py    # writes the table anew

The sentences are in objections.md.jinja; every number is read from what git keeps of the studies: reports/<study>/headline.json
and frames/.
"""

import json
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import jinja2
import polars as pl

from lgmamba.analysis.collect import load_study
from lgmamba.analysis.contrasts import SHOWN, VERDICTS
from lgmamba.analysis.matrix import kept_studies, matrix_frame
from lgmamba.report import update_block
from lgmamba.report.wording import interval, listed, number, signed

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports"
PAGE = ROOT / "docs/claims.md"


def contrast(study: str, name: str, ends: bool = True) -> str:
    """`C3`: shown, +0.39 [+0.18, +0.61] dB; without the ends of its interval where they are of no use."""
    rows = json.loads((REPORTS / study / "headline.json").read_text(encoding="utf-8"))["contrasts"]
    (row,) = (row for row in rows if row["name"] == name)
    found = f" {interval(row['lo'], row['hi'], 'dB')}" if ends and row["lo"] is not None else ""
    return f"`{name}`: {row['verdict']}, {signed(row['effect'])}{found} dB"


def level(study: str, run: str, step: int, order: str | None = None, mode: str = "prefix") -> float:
    """Mean level over trainings, as curves have it; order: by default the first that was read."""
    frames = REPORTS / study / "frames"
    order = order or load_study(frames / "study.json").evaluation.orders[0]
    rows = pl.read_parquet(frames / "curves.parquet").filter(method="model", run=run, step=step, order=order, mode=mode)
    if rows.is_empty():
        raise ValueError(f"{frames}: found no level of {run} ({order}, {mode}) at {step} steps, expected one")
    return float(rows["psnr"].mean())


def remedied(run: str, remedy: str, factor: float = 25.0) -> str:
    """Mean level of a run of `cifar10_remedies` with a remedy or control, as the report's tables have it."""
    rows = pl.read_parquet(REPORTS / "cifar10_remedies/frames/remedies.parquet")
    return f"{number(rows.filter(run=run, remedy=remedy, factor=factor, order='permutation')['psnr'].item())} dB"


def again(remedy: str, order: str = "replacement", step: int = 1600) -> str:
    """Mean level of `uniform_64` of `cifar10_repairs` with a remedy or control."""
    rows = pl.read_parquet(REPORTS / "cifar10_repairs/frames/remedies_levels.parquet")
    rows = rows.filter(run="uniform_64", method=remedy, order=order, step=step)
    if rows["mode"].n_unique() != 1:
        raise ValueError(f"cifar10_repairs: found {rows['mode'].unique().to_list()} of {remedy}, expected one mode")
    return f"{number(rows['value'].mean())} dB"


def dB(*where, **more) -> str:
    """A level in words."""
    return f"{number(level(*where, **more))} dB"


def change(study: str, run: str, later: int, earlier: int, **more) -> str:
    """Level at one step minus that at another, in words."""
    return f"{signed(level(study, run, later, **more) - level(study, run, earlier, **more))} dB"


def link(study: str) -> str:
    """To a study's report, from docs/."""
    return f"[{study}](../reports/{study}/report.md)"


@cache
def matrix() -> pl.DataFrame:
    """The table of remedies by task."""
    return matrix_frame(kept_studies(REPORTS))


def cell(study: str, remedy: str) -> str:
    """One cell of it."""
    row = matrix().filter(study=study, remedy=remedy).row(0, named=True)
    return f"{row['verdict']}, {signed(row['effect'])} {interval(row['lo'], row['hi'], 'dB')} dB"


def verdicts() -> str:
    """How many contrasts of all kept studies have which verdict."""
    files = sorted(REPORTS.glob("*/headline.json"))
    found = Counter(row["verdict"] for f in files for row in json.loads(f.read_text(encoding="utf-8"))["contrasts"])
    return f"of {found.total()} contrasts {listed(f'{found[word]} {word}' for word in VERDICTS if found[word])}"


def told(study: str) -> str:
    """Of how many mixers of a study it is shown that the length helps and not the token, and of how many that it does not."""
    rows = json.loads((REPORTS / study / "headline.json").read_text(encoding="utf-8"))["contrasts"]
    mine = [row for row in rows if row["claim"].startswith("Its own length in the token helps")]
    found = Counter(row["verdict"] for row in mine)
    return (
        f"of {len(mine)} mixers {listed(f'{found[word]} {word}' for word in VERDICTS if found[word] or word == SHOWN)}"
    )


def table() -> str:
    """The table as Markdown: objections.md.jinja with its numbers."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.globals |= {f.__name__: f for f in (contrast, remedied, again, dB, change, link, cell, verdicts, told)}
    return environment.from_string((Path(__file__).with_suffix(".md.jinja")).read_text(encoding="utf-8")).render()


if __name__ == "__main__":
    update_block(Path(sys.argv[1]) if sys.argv[1:] else PAGE, "objections", table())

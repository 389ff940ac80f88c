"""The tables of levels on the second page, rendered from frames in git: one for each order, and of mixers what the study has."""

from pathlib import Path

import polars as pl
import pytest

from lgmamba.report import render, wording
from lgmamba.report.context import gather

REPORTS = Path(__file__).parents[2] / "reports"


def second_page(study: str, **changes) -> tuple[str, dict]:
    frames = REPORTS / study / "frames"
    context = gather(frames / "study.json", frames) | changes
    return render("details.md.jinja", context, rich=False, picture=str), context


def test_levels_are_given_in_every_order():
    """Contrasts may be about another order than the first."""
    page, _ = second_page("cifar10_controls")
    table = page.split("The same in order `replacement`:")[1].split("Long before")[0]
    (row,) = (line for line in table.splitlines() if line.startswith("| fixed_64_r |"))
    levels = pl.read_parquet(REPORTS / "cifar10_controls/frames/summary.parquet").filter(
        run="fixed_64_r", mode="prefix", method="model", order="replacement"
    )
    expected = [wording.number(levels.filter(step=step)["psnr"].item()) for step in (64, 256, 1600)]
    cells = row.split(" | ")
    assert [cells[2], cells[4], cells[6].rstrip(" |")] == expected


@pytest.mark.parametrize("leads", [True, False], ids=["with specialists", "without"])
def test_mixers_have_a_column_of_their_specialists_where_there_are_any(leads):
    page, context = second_page("mixers_omniglot")
    if not leads:
        mixers = context["mixers"] | {"rows": [row | {"lead": None} for row in context["mixers"]["rows"]]}
        page, _ = second_page("mixers_omniglot", mixers=mixers)
    section = page.split("### Sequence mixers")[1].split("What goes with the fall")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    assert ("specialist's lead" in section) == ("ahead of the generalist" in section) == leads
    assert len({line.count("|") for line in table}) == 1
    assert "so described only)" in section and "In brackets: 95 % intervals" in section

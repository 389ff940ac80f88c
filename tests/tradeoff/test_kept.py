"""Frames of these studies in git are whole, small, and those of their preset."""

from pathlib import Path

import polars as pl
import pytest

from lgmamba.analysis.kept import check_kept
from lgmamba.records import checked_all
from lgmamba.tradeoff.config import load_tradeoff
from lgmamba.tradeoff.keys import FRAME_FILES

ROOT = Path(__file__).parents[2]
STUDIES = {path.stem for path in ROOT.glob("workflow/tradeoff/*.yaml")}
KEPT = [p.parent for p in sorted(ROOT.glob("reports/*/frames/study.json")) if p.parts[-3] in STUDIES]


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.parent.name)
def test_frames_in_git_are_those_of_their_preset_whole_and_small(folder):
    check_kept(load_tradeoff(folder.parent.name, root=ROOT), folder)
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert set(files) == {"study.json", "record.json", *FRAME_FILES}
    checked_all(folder, FRAME_FILES, "tradeoff evaluate")
    assert sum(files.values()) < 1e6


def test_the_page_says_of_every_claim_what_the_frames_say():
    page = (ROOT / "docs/tradeoff.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| E")]
    for column, study in enumerate(("tradeoff", "tradeoff_cifar10"), start=2):
        kept = pl.read_parquet(ROOT / "reports" / study / "frames/contrasts.parquet")
        assert {row[0]: row[column] for row in rows} == dict(kept.select("name", "verdict").iter_rows())

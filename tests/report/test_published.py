"""What git publishes of studies: verdicts that anybody can compute again, first pages that one reads, and pages that say what reports say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lgmamba.analysis.collect import load_study
from lgmamba.report import BLOCKS, render, update_block, update_readme
from lgmamba.report.context import gather

ROOT = Path(__file__).parents[2]
SCRIPTS = [str(ROOT / "workflow/scripts"), str(ROOT / "docs/build")]
sys.path[:0] = SCRIPTS
recompute, objections = (__import__(name) for name in ("recompute", "objections"))
del sys.path[: len(SCRIPTS)]

REPORTS = sorted(path.parent for path in ROOT.glob("reports/*/headline.json"))
TRADEOFFS = {path.stem for path in ROOT.glob("workflow/tradeoff/*.yaml")}
BLOCK = re.compile(rf"<!-- generated:(?:{'|'.join(BLOCKS)}):(\w+) -->")
WORDS = 1500


def headline(folder: Path) -> dict:
    return json.loads((folder / "headline.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def as_in_git():
    """After `make run` the default study's report has other last digits than the frames and pages in git, until `make keep readme`."""
    changed = ["git", "diff", "--quiet", "HEAD", "--", "reports/queried_digits/headline.json"]
    if subprocess.run(changed, cwd=ROOT, check=False).returncode == 1:
        pytest.skip("the default study was made anew here; `make keep readme` brings what git publishes up to date")


def test_the_script_that_recomputes_knows_nothing_of_this_package():
    assert "lgmamba" not in re.sub(
        r'""".*?"""', "", Path(recompute.__file__).read_text(encoding="utf-8"), flags=re.DOTALL
    )


@pytest.mark.parametrize("folder", [f for f in REPORTS if headline(f)["contrasts"]], ids=lambda folder: folder.name)
def test_every_verdict_is_that_of_the_levels_of_single_trainings(folder):
    said, found = headline(folder)["contrasts"], recompute.recomputed(folder)
    assert [row["name"] for row in said] == list(found)
    wrong = {row["name"]: recompute.differing(row, found[row["name"]]) for row in said}
    assert {name: keys for name, keys in wrong.items() if keys} == {}
    assert recompute.flaws(folder) == []
    levels = recompute.levels_again(folder)  # of studies that keep errors of single images
    assert levels.is_empty() or levels["found"].all()


def test_a_verdict_or_a_number_that_was_changed_is_found():
    (row,) = (row for row in headline(ROOT / "reports/omniglot")["contrasts"] if row["name"] == "C4")
    found = recompute.recomputed(ROOT / "reports/omniglot")["C4"]
    assert recompute.differing(row | {"verdict": "shown", "lo": row["lo"] + 1e-6}, found) == ["verdict", "lo"]
    assert recompute.differing(row | {"hi": None}, found) == ["hi"]


def test_a_study_that_is_asked_for_and_has_no_frames_is_no_success(capsys):
    assert recompute.main(["omniglotto"]) == 1
    assert "omniglotto: found no frames in " in (said := capsys.readouterr()).err and said.out == ""


def test_the_first_screen_has_the_intervals_of_what_does_not_hold():
    found = {row["name"]: row for row in headline(ROOT / "reports/omniglot")["contrasts"]}
    told, token = found["C4_told"], found["C4"]
    first = " ".join((ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- generated")[0].split())
    assert f"the difference is between {told['lo']:.2f} and {told['hi']:+.2f} dB over ten trainings each" in first
    assert f"is between {-token['lo']:.2f} dB worse and {token['hi']:.2f} dB better than without" in first


def words_of(page: str) -> int:
    """Words that are read, not counting numbers and addresses of links."""
    read = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", page)
    return sum(bool(re.search(r"[^\W\d_]", word)) for word in read.split())


@pytest.mark.parametrize("folder", REPORTS, ids=lambda folder: folder.name)
def test_first_pages_are_short(folder):
    study = folder / "frames/study.json"
    if folder.name in TRADEOFFS or not study.is_file():
        page = (folder / "report.md").read_text(encoding="utf-8")
    else:
        kind = "" if load_study(study).task.IMAGES else "plain_"
        page = render(f"{kind}report.md.jinja", gather(study, study.parent), rich=False, picture=str)
    assert words_of(page) <= WORDS


@pytest.mark.parametrize("page", ["README.md", "docs/cifar10.md", "docs/claims.md", "docs/mixers.md", "docs/paper.md"])
def test_pages_say_what_the_reports_say(page, tmp_path):
    copy, before = tmp_path / "page.md", (ROOT / page).read_text(encoding="utf-8")
    copy.write_text(before, encoding="utf-8")
    studies = set(BLOCK.findall(before))
    assert studies
    for study in studies:
        update_readme(copy, ROOT / "reports" / study / "headline.json")
    assert copy.read_text(encoding="utf-8") == before


def test_the_table_of_objections_has_the_numbers_of_the_frames(tmp_path):
    copy = tmp_path / "claims.md"
    copy.write_text(before := objections.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    update_block(copy, "objections", objections.table())
    assert copy.read_text(encoding="utf-8") == before
    with pytest.raises(ValueError, match=r"found no level of fixed_1024 .* at 7 steps"):
        objections.level("omniglot", "fixed_1024", 7)


STUDIES = [folder for folder in REPORTS if (folder / "frames/study.json").is_file() and folder.name not in TRADEOFFS]


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_report_says_that_remedies_are_claimed_where_a_contrast_is_of_one_and_nowhere_else(folder):
    page = (folder / "report.md").read_text(encoding="utf-8")
    if "## Remedies\n" not in page:
        pytest.skip("it tries none, or describes none")
    primary = json.loads((folder / "frames/study.json").read_text(encoding="utf-8"))["claims"].get("primary", [])
    treated = any(side.get("remedy") or side.get("best_of") for row in primary for side in (row["of"], row["minus"]))
    assert ("what is claimed of remedies is among the primary contrasts above" in page) == treated
    assert ("no primary contrast is of a remedy" in page) == (not treated)

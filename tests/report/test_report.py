import html
import json
import re
from pathlib import Path

import polars as pl
import pytest

from lgmamba.analysis import figures_of
from lgmamba.analysis.collect import load_study
from lgmamba.analysis.evaluate import evaluate
from lgmamba.config.remedies import MODES
from lgmamba.figures import draw
from lgmamba.records import ArtefactError, Key, finish
from lgmamba.report import html_page, render, update_readme, words, write_report
from lgmamba.report.answer import answers, exceptions
from lgmamba.report.facts import gather
from lgmamba.report.remedy_kinds import KINDS
from tests.analysis.synthetic_study import DIGITS_RUNS, make_study, study_values

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8ffff3f0005fe02fea7d6059b0000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def report(study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    figures = out / "figures"
    figures.mkdir()
    for name in figures_of(load_study(study.study)):
        (figures / f"{name}.png").write_bytes(PNG)
        finish(Key("figure", {}, "", "", {}), figures, [f"{name}.png"], name)
    write_report(study.study, study.frames, figures, out)
    return out


def test_the_page_asks_for_nothing_from_outside(report, study):
    page = (report / "report.html").read_text()
    sources = re.findall(r"""(?:src|href)=["']([^"']*)["']""", page)
    assert len(sources) >= len(figures_of(load_study(study.study)))
    assert all(source.startswith(("data:", "#")) for source in sources), sources
    assert "@import" not in page
    assert "url(" not in page


def test_every_figure_is_there_with_its_caption(report, study):
    page, text = (report / "report.html").read_text(), (report / "report.md").read_text()
    names = figures_of(load_study(study.study))
    for position in range(1, len(names) + 1):
        assert f"Figure {position}." in page
        assert f"**Figure {position}." in text
    for name in names:
        assert f"(figures/{name}.png)" in text
        assert f"(figures/{name}.csv)" in text
    assert "40 test images, 2 visiting orders an image, 2 seeds" in text


def test_templates_leave_no_trace(report):
    for name in ("report.md", "report.html"):
        text = (report / name).read_text()
        assert "{{" not in text
        assert "{%" not in text
        assert "None" not in text.split("## Configuration")[0].split("Configuration</h2>")[0]
    assert "<p>|" not in (report / "report.html").read_text()  # a table that is none


def test_numbers_are_those_of_the_frames(report, study):
    text = (report / "report.md").read_text()
    cell = (
        pl.read_parquet(study.frames / "claims.parquet")
        .filter(claim="C1", run="fixed_8", factor=2.0)
        .row(0, named=True)
    )
    assert f"| {words.signed(cell['effect'])} | [{words.signed(cell['lo'])}, {words.signed(cell['hi'])}] |" in text
    headline = json.loads((report / "headline.json").read_text())
    summary = pl.read_parquet(study.frames / "summary.parquet").filter(
        run="uniform", mode="prefix", method="model", step=16
    )
    row = next(row for row in headline["psnr"] if row["run"] == "uniform")
    assert row["psnr"]["1"] == summary["psnr"].item()


def test_remedies_are_told_in_numbers_of_their_frames(report, study):
    text = (report / "report.md").read_text()
    section = text.split("## Remedies")[1].split("## Method")[0]
    level = pl.read_parquet(study.frames / "remedies.parquet").filter(
        run="uniform", order="replacement", remedy="dt_running", factor=25.0
    )
    row = level.row(0, named=True)
    written = f"{words.number(row['psnr'])} [{words.number(row['psnr_lo'])},\u00a0{words.number(row['psnr_hi'])}]"
    table = section.split("<summary>uniform (L0 = 16), order replacement</summary>")[1].split("</details>")[0]
    (mine,) = (line for line in table.splitlines() if line.startswith("| dt_running |"))
    assert mine.startswith("| dt_running | dt times L0/t; stream | all |")
    assert mine.endswith(f"{written} | none | \u2013 | 1.5 |")
    assert [
        line.split(" | ")[2] for line in table.splitlines() if line.startswith(("| a_gr", "| clip", "| freeze"))
    ] == [
        *("vanilla, reset", "none", "all but subset random, subset cover"),
    ]
    assert "| a_gradient | s \\|A\\| by layer, by back-propagation; prefix | vanilla, reset |" in table
    assert "| none | 12 passes, 1.5 s | 1.5 |" in table
    assert "changes nothing at T \u2264 L0:** all of them, on every run and in every order." in section
    assert f"the best remedy is `dt_running` with {words.number(row['psnr'])} dB" in section
    share = pl.read_parquet(study.frames / "remedies_lengths.parquet").filter(kind="step_size", factor=25.0)
    assert f"with {words.number(100 * share['step_size_share'][0], 0)} % of vanilla's step sizes" in section
    assert "| C10 | together | holds | holds (16 of 16) |" in section


def test_tables_of_remedies_are_tables_on_the_page_too(report):
    section = (report / "report.html").read_text().split('<h2 id="remedies">')[1].split("<h2")[0]
    assert section.count("<table>") == 5  # two runs in two orders, and the claims
    assert section.count("<details") == section.count("</details>") == 4


def test_the_readme_says_what_no_remedy_does(report):
    headline = json.loads((report / "headline.json").read_text())["remedies"]
    assert [goal["words"].split()[0] for goal in headline["goals"]] == [
        "changes",
        "never",
        "beats",
        "recovers",
        "stays",
    ]
    text = render("readme_remedies.md.jinja", json.loads((report / "headline.json").read_text()))
    assert "**Remedies** (5 tried, on 20 test images, 2 seeds, orders `permutation` and `replacement`):" in text
    assert "wherever T reaches that length: none on every run and in every order, some in 0 of 2." in text
    assert (
        "never falls as T grows, to within 0.05 dB: `dt_running` and `together`, on every run and in every order."
        in text
    )


def test_each_kind_of_remedy_has_its_words():
    assert set(KINDS) == {kind for kind, _ in MODES} | {"combine"}


def test_our_choices_are_named_in_one_place(report):
    text = (report / "report.md").read_text()
    assert text.count("only that abstract was available") == 1


def test_metrics_are_numbers(report):
    def leaves(values: object):
        return [leaf for value in values.values() for leaf in leaves(value)] if isinstance(values, dict) else [values]

    found = leaves(json.loads((report / "metrics.json").read_text()))
    assert len(found) > 20
    assert all(isinstance(leaf, int | float) for leaf in found)


def test_a_second_report_is_the_same(report, study, tmp_path):
    before = {
        name: (report / name).read_bytes() for name in ("report.md", "report.html", "headline.json", "metrics.json")
    }
    write_report(study.study, study.frames, report / "figures", report)
    assert before == {name: (report / name).read_bytes() for name in before}


def test_missing_figures_are_named(study, tmp_path):
    with pytest.raises(ArtefactError, match=r"task\.record\.json: missing.*`lgmamba figure"):
        write_report(study.study, study.frames, tmp_path, tmp_path / "out")


def cells(*rows: dict) -> pl.DataFrame:
    base = {
        "claim": "C1",
        "family": None,
        "run": "a",
        "against": "itself at L0 = 8",
        "step": 16,
        "factor": 2.0,
        "claimed_sign": -1,
        "unit": "dB",
    }
    base |= {"lo": 0.0, "hi": 0.0, "per_seed": [0.0, 0.0], "verdict": "holds"}
    return pl.DataFrame([base | row for row in rows])


LENGTHS = {"a": 8, "b": 16}
NO_GAPS = pl.DataFrame(schema={"run": pl.String, "step": pl.Int64, "gap_closed": pl.Float64, "beside": pl.Float64})


def test_sentences_say_what_happened_not_what_was_hoped():
    falls = answers(cells({"effect": -1.0}, {"effect": -2.0, "run": "b"}), NO_GAPS, LENGTHS, 16)["C1"]
    assert "PSNR falls by 1.00 to 2.00 dB at 2 \u00d7 L0 (range over 2 runs)" in falls
    assert "Where L0 covers the 16 cells of an image, 1 of 1 test hold" in falls
    assert "which may lower the error, and 1 of 1 do" in falls
    mixed = answers(cells({"effect": -1.0}, {"effect": 0.25, "run": "b"}), NO_GAPS, LENGTHS, 16)["C1"]
    assert "PSNR changes by \u22121.00 to +0.25 dB" in mixed
    behind = answers(cells({"claim": "C4", "claimed_sign": 1, "family": "u", "effect": -0.1}), NO_GAPS, LENGTHS, 16)[
        "C4"
    ]
    assert "`a` is 0.10 dB below the generalist `u`" in behind
    beside = NO_GAPS.vstack(
        pl.DataFrame([["a", 8, None, -0.05], ["a", 16, None, 0.4]], schema=NO_GAPS.schema, orient="row")
    )
    told = answers(cells({"claim": "C4", "claimed_sign": 1, "family": "u", "effect": 0.1}), beside, LENGTHS, 16)["C4"]
    assert told.endswith(" From the specialists `a` differs by \u22120.05 to +0.40 dB (T = 8 and 16).")


def test_early_levels_of_specialists_are_told_by_training_length():
    early = {"claim": "C2", "against": "mean image", "family": "u"}
    rows = cells(early | {"run": "b", "effect": -1.0, "step": 4}, early | {"run": "a", "effect": 0.5, "step": 2})
    sentence = answers(rows, NO_GAPS, LENGTHS, 16)["C2"]
    assert "against the mean image: +0.50 dB at t = 2 of 8 and \u22121.00 dB at t = 4 of 16." in sentence


def test_tests_that_do_not_hold_are_listed_with_their_size():
    frame = cells(
        {"effect": 0.2, "lo": -0.1, "hi": 0.5, "per_seed": [0.1, 0.3], "verdict": "not shown"}, {"effect": -1.0}
    )
    (line,) = exceptions(frame)["C1"]
    assert (
        line
        == "`a` against itself at L0 = 8 at t = 16: not shown; +0.20 dB, interval [\u22120.10, +0.50], seeds +0.10, +0.30"
    )
    many = pl.concat([frame.head(1)] * 5)
    assert exceptions(many, most=2)["C1"][-1] == "and 3 more, in the tables at the end"


def test_the_readme_gets_the_headline_between_its_markers(report, tmp_path):
    readme = tmp_path / "README.md"
    marker = "<!-- generated:headline:synthetic -->"
    readme.write_text(f"before\n{marker}\nstale text\n<!-- /generated -->\nafter\n")
    update_readme(readme, report / "headline.json")
    once = readme.read_text()
    assert "stale text" not in once
    assert once.startswith(f"before\n{marker}\nStudy `synthetic`")
    assert once.endswith("<!-- /generated -->\nafter\n")
    assert "| C1 | The error rises beyond the training length | holds (28 of 28) |" in once
    update_readme(readme, report / "headline.json")
    assert readme.read_text() == once


def test_the_readme_may_have_the_remedies_alone(report, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- generated:remedies:synthetic -->\n<!-- /generated -->\n")
    update_readme(readme, report / "headline.json")
    tried = json.loads((report / "headline.json").read_text())["remedies"]["tried"]
    assert f"**Remedies** ({tried} tried" in readme.read_text()
    assert "| C1 |" not in readme.read_text()


def test_a_block_that_a_study_has_nothing_for_is_an_error(report, tmp_path):
    headline, readme = tmp_path / "headline.json", tmp_path / "README.md"
    headline.write_text(json.dumps(json.loads((report / "headline.json").read_text()) | {"remedies": None}))
    before = "<!-- generated:remedies:synthetic -->\nstays\n<!-- /generated -->\n"
    readme.write_text(before)
    with pytest.raises(ValueError, match="study 'synthetic' has no remedies"):
        update_readme(readme, headline)
    assert readme.read_text() == before


def test_a_readme_without_markers_is_left_alone(report, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing here\n")
    with pytest.raises(ValueError, match="expected a line `<!-- generated:headline:synthetic -->`"):
        update_readme(readme, report / "headline.json")
    readme.write_text("<!-- generated:headline:another -->\nstays\n<!-- /generated -->\n")
    with pytest.raises(ValueError, match="expected a line"):
        update_readme(readme, report / "headline.json")


def test_the_plain_account_has_the_frames_numbers(report, study, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- generated:account:synthetic -->\n<!-- /generated -->\n")
    update_readme(readme, report / "headline.json")
    text = readme.read_text()
    summary = pl.read_parquet(study.frames / "summary.parquet").filter(mode="prefix", method="model")
    for run in ("fixed_16", "uniform", "adaptive"):
        numbers = [summary.filter(run=run, step=t)["psnr"].item() for t in (4, 16, 32, 400)]
        assert " | ".join(words.number(v, 1) for v in numbers) in text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: words.signed(1.234), "+1.23"),
        (lambda: words.signed(-0.001), "0.00"),
        (lambda: words.number(None), "\u2013"),
        (lambda: words.span([0.5, 0.501]), "0.50"),
        (lambda: words.listed(["a", "b", "c"]), "a, b and c"),
        (lambda: words.plural(1, "seed"), "1 seed"),
        (lambda: words.plural(10000, "image"), "10,000 images"),
        (lambda: words.duration(59.94), "59.9 s"),
        (lambda: words.duration(200), "3 min 20 s"),
        (lambda: words.duration(7500), "2 h 5 min"),
        (lambda: words.memory(1536), "1.5 GB"),
    ],
)
def test_numbers_as_words(call, text: str):
    assert call() == text


def test_a_study_with_almost_nothing_still_gets_its_figures_and_report(tmp_path):
    """No specialist, one seed, nothing probed beyond twice L0: all is untestable, and said so."""
    runs = {name: DIGITS_RUNS[name] for name in ("uniform", "adaptive")}
    probe = {"images": 3, "repeats": 1, "max_factor": 2, "factors": [2], "panel_images": 1}
    study_json, results = make_study(
        tmp_path, study_values(runs, probe=probe, claims={"bootstrap": 20}) | {"seeds": [0]}
    )
    evaluate(study_json, results, tmp_path / "frames")
    for name in figures_of(load_study(study_json)):
        draw(name, study_json, tmp_path / "frames", tmp_path / "figures")
    write_report(study_json, tmp_path / "frames", tmp_path / "figures", tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "Of the five claims tested, 0 hold in every test." in text
    assert (
        "**C3. Specialists beat the generalist at their own length: not testable here (the study has no runs that this claim compares).**"
        in text
    )
    assert "One seed says nothing about the spread between trainings" in text
    assert "## Remedies" not in text


def test_strategies_are_told_in_numbers_of_the_map(study, report):
    maps = pl.read_parquet(study.frames / "figure_retention.parquet")
    fresh = maps.filter(run="fixed_16", step=4, age_low=0)["mse"].item()
    text = (report / "report.md").read_text()
    assert (
        f"* `fixed_16`: at t = 4, before its L0 = 16, the squared error is {fresh:.4f} at the patch just read, " in text
    )
    at_L0, beyond = (maps.filter(run="fixed_16", step=t, age_low=15)["mse"].item() for t in (16, 400))
    assert f"from {at_L0:.4f} to {beyond:.4f} at patches read 15\u201330 steps ago." in text


HOSTILE = "a <script>alert(1)</script> [link](javascript:alert(2)) | cell\n\n# title ![](http://x/y.png)"


def test_what_a_person_wrote_is_text_and_nothing_else():
    text = words.plain_text(HOSTILE)
    page = html_page(f"| run | note |\n| --- | --- |\n| a | {text} |\n", "title <b>")
    assert "<script" not in page
    assert "<a " not in page
    assert "<img" not in page
    assert page.count("<td>") == 2
    assert "<title>title &lt;b&gt;</title>" in page
    (cell,) = re.findall(r"<td>(a &lt;.*)</td>", page)
    assert html.unescape(cell) == " ".join(HOSTILE.split())


def test_notes_reach_the_report_as_text(tmp_path):
    runs = {name: DIGITS_RUNS[name] for name in ("fixed_16", "uniform", "adaptive")}
    runs["uniform"] = runs["uniform"] | {"note": HOSTILE}
    study_json, results = make_study(tmp_path, study_values(runs, claims={"bootstrap": 20}))
    evaluate(study_json, results, tmp_path / "frames")
    facts = gather(study_json, tmp_path / "frames")
    (noted,) = (row["note"] for row in facts["runs"] if row["note"])
    assert noted == words.plain_text(HOSTILE)


def test_a_page_runs_no_script_and_loads_nothing(report):
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in (report / "report.html").read_text()

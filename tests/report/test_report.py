import html
import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from lgmamba.analysis import figures_of
from lgmamba.analysis.collect import load_study
from lgmamba.analysis.contrasts import SCHEMA
from lgmamba.analysis.evaluate import evaluate
from lgmamba.figures import draw
from lgmamba.records import ArtefactError
from lgmamba.remedies.configs import CONFIGS
from lgmamba.report import PAGES, html_page, update_readme, wording, write_report
from lgmamba.report.captions import same_images
from lgmamba.report.context import gather
from lgmamba.report.contrasts import contrast_context, sentence
from tests.analysis.synthetic_study import DIGITS_RUNS, make_study, study_values
from tests.figures.thumbnails import NOTHING, pictures_of_nothing, thumbnails


@pytest.fixture(scope="module")
def report(study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    figures = out / "figures"
    pictures_of_nothing(study.study, figures)
    write_report(study.study, study.frames, figures, out)
    return out


def test_the_page_asks_for_nothing_from_outside(report, study):
    pictures = 0
    for name in ("report.html", "details.html"):
        page = (report / name).read_text()
        loaded = re.findall(r"""src=["']([^"']*)["']""", page)
        assert all(source.startswith("data:") for source in loaded), loaded
        links = re.findall(r"""href=["']([^"']*)["']""", page)
        own = ("report.html", "details.html", "explorer.html")
        assert all(link.startswith(("data:", "#", "figures/")) or link.partition("#")[0] in own for link in links)
        assert "@import" not in page and "url(" not in page
        pictures += len(loaded)
    assert pictures == len(figures_of(load_study(study.study)))


def test_figures_open_at_full_size(report, study):
    page = (report / "report.html").read_text()
    assert '<a href="figures/curves.png"><img' in page


def test_every_figure_is_there_with_its_caption(report, study):
    page, text = ("".join((report / f"{name}.{end}").read_text() for name in PAGES) for end in ("html", "md"))
    names = figures_of(load_study(study.study))
    for position in range(1, len(names) + 1):
        assert f"Figure {position}." in page
        assert f"**Figure {position}." in text
    for name in names:
        assert f"(figures/{name}.png)" in text
        assert f"(figures/{name}.csv)" in text
    assert "40 test images, 2 visiting orders an image, 2 seeds" in text


def test_templates_leave_no_trace(report):
    for name in ("report.md", "report.html", "details.md", "details.html"):
        text = (report / name).read_text()
        assert "{{" not in text
        assert "{%" not in text
        assert "None" not in text.split("## Configuration")[0].split("Configuration</h2>")[0]
        assert "<p>|" not in text  # a table that is none


def test_numbers_are_those_of_the_frames(report, study):
    text = (report / "details.md").read_text()
    row = pl.read_parquet(study.frames / "contrasts.parquet").filter(name="C1").row(0, named=True)
    interval = f"[{wording.signed(row['lo'])}, {wording.signed(row['hi'])}]"
    assert f"| {wording.signed(row['effect'])} | {interval} | {wording.probability(row['p'])} |" in text
    headline = json.loads((report / "headline.json").read_text())
    summary = pl.read_parquet(study.frames / "summary.parquet").filter(
        run="uniform", mode="prefix", method="model", step=16
    )
    row = next(row for row in headline["psnr"] if row["run"] == "uniform")
    assert row["psnr"]["1"] == summary["psnr"].item()


def test_the_answer_comes_first_and_is_that_of_the_primary_contrasts(report, study):
    text = (report / "report.md").read_text()
    answer = text.split("## Answer")[1].split("![")[0]
    for row in pl.read_parquet(study.frames / "contrasts.parquet").iter_rows(named=True):
        assert f"* **{row['claim']}:** {row['verdict']}: {wording.signed(row['effect'])} dB" in answer
    assert "so this is exploratory" in answer
    assert len(re.findall(r"\w+", re.sub(r"!?\[[^]]*\]\([^)]*\)", "", text))) <= 1500


def test_remedies_are_told_in_numbers_of_their_frames(report, study):
    text = (report / "details.md").read_text()
    section = text.split("## Remedies, each")[1].split("## Method")[0]
    at = {"run": "uniform", "order": "replacement", "remedy": "dt_running", "factor": 25.0}
    row = pl.read_parquet(study.frames / "remedies.parquet").filter(**at).row(0, named=True)
    ahead = pl.read_parquet(study.frames / "remedies_differences.parquet").filter(against="the best control", **at)
    table = section.split("<summary>uniform (L0 = 16), order replacement</summary>")[1].split("</details>")[0]
    (mine,) = (line for line in table.splitlines() if line.startswith("| dt_running |"))
    assert mine.startswith("| dt_running | dt times L0/t |")
    assert f"| {wording.number(row['psnr'])} | {wording.signed(ahead['effect'].item())} [" in mine
    assert mine.endswith("| no | 1.5 | none | \u2013 |")
    assert "| a_gradient | s \\|A\\| by layer, by back-propagation |" in table
    assert "| yes | 1.5 | none | 12 passes, 1.5 s |" in table
    first = (report / "report.md").read_text()
    assert f"the best remedy is `dt_running` with {wording.number(row['psnr'])} dB" in first
    share = pl.read_parquet(study.frames / "remedies_lengths.parquet").filter(kind="step_size", factor=25.0)
    assert f"with {wording.number(100 * share['step_size_share'][0], 0)} % of vanilla's step sizes" in section


def test_tables_of_remedies_are_tables_on_the_page_too(report):
    section = (report / "details.html").read_text().split('<h2 id="remedies-each">')[1].split("<h2")[0]
    assert section.count("<table>") == 4  # two runs in two orders
    assert section.count("<details") == section.count("</details>") == 4


def test_each_kind_of_remedy_has_its_words():
    assert all(config.TITLE and config.ABOUT.endswith(".") for config in CONFIGS.values())


def test_metrics_are_numbers(report):
    def leaves(values: object):
        return [leaf for value in values.values() for leaf in leaves(value)] if isinstance(values, dict) else [values]

    found = leaves(json.loads((report / "metrics.json").read_text()))
    assert len(found) > 20
    assert all(isinstance(leaf, int | float) for leaf in found)


def test_a_second_report_is_the_same(report, study, tmp_path):
    before = {
        name: (report / name).read_bytes()
        for name in ("report.md", "report.html", "details.md", "details.html", "headline.json", "metrics.json")
    }
    write_report(study.study, study.frames, report / "figures", report)
    assert before == {name: (report / name).read_bytes() for name in before}


def test_missing_figures_are_named(study, tmp_path):
    with pytest.raises(ArtefactError, match=r"task\.record\.json: missing.*`lgmamba figure"):
        write_report(study.study, study.frames, tmp_path, tmp_path / "out")


def test_half_a_figure_is_named_and_nothing_is_written(report, study, tmp_path):
    figures = shutil.copytree(report / "figures", tmp_path / "figures")
    (figures / "task.png").write_bytes(NOTHING[: len(NOTHING) // 2])
    with pytest.raises(ArtefactError, match=r"task\.png: damaged .*`lgmamba figure"):
        write_report(study.study, study.frames, figures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


ROW = {
    "claim": "It falls",
    "effect": -1.0,
    "lo": -1.5,
    "hi": -0.5,
    "n_seeds": 5,
    "of_level": 14.0,
    "minus_level": 15.0,
    "detectable": 0.7,
    "p_holm": 0.059,
    "reason": None,
    "verdict": "shown",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "shown: \u22121.00 dB [\u22121.50, \u22120.50], 5 trainings a side (14.00 against 15.00 dB)."),
        (
            {"verdict": "undecided", "effect": 0.1, "lo": -0.5, "hi": 0.7},
            "undecided: +0.10 dB [\u22120.50, +0.70], 5 trainings a side (14.00 against 15.00 dB); these trainings could have shown 0.70 dB.",
        ),
        (
            {"verdict": "undecided", "effect": -0.3, "lo": -0.5, "hi": -0.1},
            "undecided: \u22120.30 dB [\u22120.50, \u22120.10], 5 trainings a side (14.00 against 15.00 dB); p = 0.059 after Holm's correction.",
        ),
        (
            {"verdict": "described", "lo": None, "hi": None, "n_seeds": 1},
            "described: \u22121.00 dB, 1 training a side (14.00 against 15.00 dB).",
        ),
        (
            {"verdict": "not testable here", "effect": None, "reason": "no training has a number for a at L0"},
            "not testable here: no training has a number for a at L0.",
        ),
    ],
)
def test_sentences_say_what_happened_not_what_was_hoped(changes: dict, expected: str):
    assert sentence(ROW | changes, "dB") == expected


def test_bits_have_three_digits_and_a_margin_those_that_it_was_given():
    row = ROW | {"effect": -0.0244, "lo": -0.03, "hi": -0.019, "of_level": 5.9512, "minus_level": 5.9756}
    found = "shown: \u22120.024 bits [\u22120.030, \u22120.019], 5 trainings a side (5.951 against 5.976 bits)."
    assert sentence(row, "bits") == found
    assert [wording.limit(value) for value in (1.0, 0.1, 0.05)] == ["1.0", "0.1", "0.05"]


def test_of_many_effects_that_are_only_described_the_signs_are_counted():
    row = {"claim": "c", "n_seeds": 1, "of_level": 2.0, "minus_level": 1.0, "verdict": "described"}
    rows = [row | {"name": f"n{k}", "claimed": "above", "effect": k - 0.5} for k in range(13)]
    rows[5]["claimed"] = "below"
    found = contrast_context(pl.DataFrame(rows, schema=SCHEMA), None, "dB")
    assert found["signs"] == "11 of 13 effects have the claimed sign; not those of `n0` and `n5`."
    assert contrast_context(pl.DataFrame(rows[:12], schema=SCHEMA), None, "dB")["signs"] == ""
    judged = pl.DataFrame([*rows, rows[0] | {"verdict": "shown"}], schema=SCHEMA)
    assert contrast_context(judged, None, "dB")["signs"] == ""


def test_the_readme_gets_the_headline_between_its_markers(report, tmp_path):
    readme = tmp_path / "README.md"
    marker = "<!-- generated:headline:synthetic -->"
    readme.write_text(f"before\n{marker}\nstale text\n<!-- /generated -->\nafter\n")
    update_readme(readme, report / "headline.json")
    once = readme.read_text()
    assert "stale text" not in once
    assert once.startswith(f"before\n{marker}\nStudy `synthetic`")
    assert once.endswith("<!-- /generated -->\nafter\n")
    assert "| C1 | Beyond its training lengths a generalist gets worse | shown |" in once
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
        assert " | ".join(wording.number(v, 1) for v in numbers) in text


def test_levels_of_every_run_are_a_block_too(report, study, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- generated:psnr:synthetic -->\n<!-- /generated -->\n")
    update_readme(readme, report / "headline.json")
    summary = pl.read_parquet(study.frames / "summary.parquet").filter(mode="prefix", method="model")
    for run, L0 in (("fixed_16", 16), ("uniform", 16)):
        numbers = [summary.filter(run=run, step=f * L0)["psnr"].item() for f in (1, 2, 25)]
        (line,) = (line for line in readme.read_text().splitlines() if line.startswith(f"| `{run}` |"))
        assert [wording.number(v) for v in numbers] == [line.split(" | ")[k].strip(" |") for k in (1, 2, -1)]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: wording.signed(1.234), "+1.23"),
        (lambda: wording.signed(-0.001), "0.00"),
        (lambda: wording.number(None), "\u2013"),
        (lambda: wording.span([0.5, 0.501]), "0.50"),
        (lambda: wording.listed(["a", "b", "c"]), "a, b and c"),
        (lambda: wording.plural(1, "seed"), "1 seed"),
        (lambda: wording.plural(10000, "image"), "10,000 images"),
        (lambda: wording.duration(59.94), "59.9 s"),
        (lambda: wording.duration(200), "3 min 20 s"),
        (lambda: wording.duration(7500), "2 h 5 min"),
        (lambda: wording.memory(1536), "1.5 GB"),
    ],
)
def test_numbers_as_words(call, text: str):
    assert call() == text


def test_a_study_with_almost_nothing_still_gets_its_figures_and_report(tmp_path):
    """No specialist, one seed, nothing probed beyond twice L0: effects are described, nothing is shown."""
    runs = {name: DIGITS_RUNS[name] for name in ("uniform", "adaptive")}
    evaluation = {"images": 3, "repeats": 1, "max_length_ratio": 2, "length_ratios": [2], "panel_images": 1}
    values = study_values(runs, evaluation=evaluation, claims={"far_length_ratios": [2]}) | {"seeds": [0]}
    study_json, results = make_study(tmp_path, values)
    evaluate(study_json, results, tmp_path / "frames")
    with thumbnails(laid_out=False):
        for name in figures_of(load_study(study_json)):
            draw(name, study_json, tmp_path / "frames", tmp_path / "figures")
    write_report(study_json, tmp_path / "frames", tmp_path / "figures", tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "described: " in text and "shown:" not in text
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
    text = wording.plain_text(HOSTILE)
    page = html_page(f"| run | note |\n| --- | --- |\n| a | {text} |\n", "title <b>")
    assert "<script" not in page
    assert "<a " not in page
    assert "<img" not in page
    assert page.count("<td>") == 2
    assert "<title>title &lt;b&gt;</title>" in page
    (cell,) = re.findall(r"<td>(a &lt;.*)</td>", page)
    assert html.unescape(cell) == " ".join(HOSTILE.split())


def test_what_people_write_reaches_the_report_as_text(tmp_path):
    runs = {name: DIGITS_RUNS[name] for name in ("fixed_16", "uniform", "adaptive")}
    runs["uniform"] = runs["uniform"] | {"note": HOSTILE}
    side = {"run": "uniform", "at": "L0"}
    contrast = {"name": "one", "claim": HOSTILE, "of": side, "minus": side | {"at": "2 L0"}, "claimed": "above"}
    claims, said = {"primary": [contrast]}, {"title": HOSTILE, "question": HOSTILE}
    study_json, results = make_study(tmp_path, study_values(runs, claims=claims) | {"report": said})
    evaluate(study_json, results, tmp_path / "frames")
    context = gather(study_json, tmp_path / "frames")
    (noted,) = (row["note"] for row in context["runs"] if row["note"])
    (claimed,) = (row["claim"] for row in context["contrasts"]["rows"])
    assert {noted, claimed, context["title"], context["question"]} == {wording.plain_text(HOSTILE)}


def test_a_page_runs_no_script_and_loads_nothing(report):
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in (report / "report.html").read_text()


def test_the_caption_of_a_gallery_says_which_images_its_frame_has():
    assert same_images([0], "test") == "The same test image in all rows."
    assert same_images([0, 1], "test").endswith("in all rows: the first 2 of those kept.")
    assert same_images([0, 3], "test").endswith("the first, and of those kept the one least like it.")

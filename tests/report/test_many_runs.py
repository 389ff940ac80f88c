"""A study of many runs: some are drawn, all are in the tables, and many contrasts are a table with an answer above it."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from lgmamba.analysis import figures_of
from lgmamba.analysis.collect import load_study
from lgmamba.analysis.contrasts import OPPOSITE, SAME, SHOWN, SMALL, Levels, contrasts_frame
from lgmamba.analysis.evaluate import levels_of
from lgmamba.analysis.kept import check_kept, keep
from lgmamba.analysis.shown import COMPARING, MANY_RUNS, shown_rows
from lgmamba.explorer import explorer_page
from lgmamba.figures import draw
from lgmamba.keys import evaluate_key, figure_key
from lgmamba.report import context, contrasts, mixers, render, write_report
from lgmamba.report.captions import PAIRED, SELECTION, SHARED, captions, sample_of, seeds_drawn
from lgmamba.report.method import method_lines
from lgmamba.report.mixers import length_sentences, mixer_context, mixer_headline, predictor_rows
from tests.analysis.conftest import mixed  # noqa: F401 (a fixture)
from tests.figures.thumbnails import pictures_of_nothing, thumbnails
from tests.records import record_again

DRAWN = ["gru", "uniform"]
PLAIN = ["uniform", "gru", "attention"]
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "reports/mixers_digits"


def change(run: str, at: str, of: str = "L0") -> dict:
    return {"of": {"run": run, "at": at}, "minus": {"run": run, "at": of}, "claimed": "below"}


CHANGES = [
    *({"name": f"M_{run}", "claim": f"{run} falls"} | change(run, "4 L0") for run in PLAIN),
    *({"name": f"other_{k}", "claim": f"other {k}"} | change("gru", f"{k}") for k in (1, 2, 4, 8, 32, 64, 400)),
    *({"name": f"more_{k}", "claim": f"more {k}"} | change("attention", f"{k}") for k in (1, 2, 4)),
]


@pytest.fixture(scope="module")
def many(mixed, tmp_path_factory) -> SimpleNamespace:  # noqa: F811
    """The study of three mixers with two of its runs shown and 13 contrasts, and its report, with figures that are drawn in tests."""
    root = tmp_path_factory.mktemp("many")
    values = json.loads(mixed.study.read_text())
    values["report"]["shown"] = DRAWN
    values["claims"] |= {"primary": CHANGES, "seeds": 2}
    study, frames = root / "study.json", root / "frames"
    study.write_text(json.dumps(values))
    shutil.copytree(mixed.frames, frames)
    params = load_study(study)
    L0 = {name: run.L0 for name, run in params.runs_by_name().items()}
    levels = {None: levels_of(pl.read_parquet(frames / "curves.parquet"), None)}
    found = contrasts_frame(Levels(levels, L0, params.evaluation.orders[0], params.task.NULL), params.claims)
    found.write_parquet(frames / "contrasts.parquet")
    record_again(frames)
    reported(study, frames, root)
    return SimpleNamespace(root=root, study=study, frames=frames, params=params, before=load_study(mixed.study))


def reported(study: Path, frames: Path, out: Path) -> None:
    """The report, with a picture of nothing for each figure."""
    pictures_of_nothing(study, out / "figures")
    write_report(study, frames, out / "figures", out)


def test_figures_one_by_one_have_the_shown_runs_and_comparisons_have_all(many, tmp_path):
    everything = {name: pl.read_parquet(many.frames / f"figure_{name}.parquet") for name in figures_of(many.params)}
    for name, frame in everything.items():
        rows = shown_rows(many.params, name, frame)
        assert shown_rows(many.before, name, frame) is frame  # nothing is named: all
        if name in COMPARING:
            assert rows is frame
        elif "runs" in frame.columns:
            assert {run for runs in rows["runs"] for run in runs.split(",")} == set(DRAWN)
        else:
            assert set(rows["run"].drop_nulls()) == set(DRAWN)
            assert rows["run"].null_count() == frame["run"].null_count()  # baselines, patches read
    with thumbnails():
        draw("curves", many.study, many.frames, tmp_path)
    assert set(pl.read_csv(tmp_path / "curves.csv")["run"].drop_nulls()) == set(DRAWN)


def test_which_runs_are_shown_makes_figures_again_and_no_numbers(many, tmp_path):
    plain = many.params.model_copy(update={"report": many.before.report})
    assert evaluate_key(many.params, {}) == evaluate_key(plain, {})
    assert figure_key(many.params, None, ()) != figure_key(plain, None, ())
    keep(plain, ("contrasts.parquet",), "evaluate", many.frames, tmp_path)
    check_kept(many.params, tmp_path)


def test_sentences_captions_links_and_explorer_are_about_the_shown_runs(many):
    report, details = ((many.root / f"{page}.md").read_text() for page in ("report", "details"))
    assert re.findall(r"^\* `(\w+)`: at t = ", report, re.MULTILINE) == ["uniform", "gru"]
    captions = dict(re.findall(r"^\*\*Figure \d+\. .*\.\*\* (.*) \(\[PDF\]\(figures/(\w+)\.pdf", report, re.MULTILINE))
    captions = {name: text for text, name in captions.items()}
    assert {name for name, text in captions.items() if text.endswith(SELECTION)} == set(captions) - set(COMPARING)
    for row in ("| attention |", "| gru_fixed |"):
        assert row in details
    linked = {run for runs in re.findall(r"explorer\.html#t=\d+&runs=([\w,]+)", report) for run in runs.split(",")}
    assert linked == set(DRAWN)
    page = explorer_page(many.params, many.frames)
    assert '"name":"gru"' in page and '"name":"attention"' not in page and '"name":"gru_fixed"' not in page


def test_many_contrasts_are_a_table_below_the_answer(many):
    report = (many.root / "report.md").read_text()
    answer = report.partition("## Answer\n")[2].partition("![")[0]
    rows = pl.read_parquet(many.frames / "contrasts.parquet")
    assert [line.count("|") for line in answer.splitlines() if line.startswith("|")] == [6] * (2 + len(CHANGES))
    assert answer.lstrip().startswith("Of 3 mixers, each read at 4 L0 and compared with itself at L0:\n\n* **")
    for (effect,) in rows.filter(pl.col("name").str.starts_with("M_")).select("effect").rows():
        assert f"{effect:+.2f} dB".replace("-", "\u2212") in answer.partition("**All primary")[0]
    assert "What there is to lose: at L0 those that" in answer and "the mean image alone has" in answer
    html = (many.root / "report.html").read_text()
    assert "<p>|" not in html and "<p>|" not in (many.root / "details.html").read_text()
    assert '<span class="verdict' in html


def test_of_very_many_contrasts_the_answer_has_those_that_are_shown(many, monkeypatch):
    monkeypatch.setattr(contrasts, "MOST", len(CHANGES) - 1)
    rows = pl.read_parquet(many.frames / "contrasts.parquet")
    shown = rows.filter(pl.col("verdict").is_in([SHOWN, SMALL, OPPOSITE]))["claim"].to_list()
    assert 0 < len(shown) < len(rows)
    told = render("report.md.jinja", context.gather(many.study, many.frames), rich=False, picture=str)
    answer = told.partition("## Answer\n")[2].partition("![")[0]
    table = [line for line in answer.splitlines() if line.startswith("| ")][2:]
    assert [re.sub(r"[^\w ].*", "", line.removeprefix("| ").removeprefix("[")).strip() for line in table] == shown
    assert "All of them: [second page](details.md#primary-contrasts)." in answer


def test_few_contrasts_are_sentences_and_many_runs_without_a_choice_are_told_of_it(mixed, many, tmp_path, monkeypatch):  # noqa: F811
    said = "`report.shown: [...]` in the configuration names those that are drawn"
    assert said not in (many.root / "report.md").read_text()
    monkeypatch.setattr(context, "MANY_RUNS", 3)
    reported(mixed.study, mixed.frames, tmp_path)
    assert said in (tmp_path / "report.md").read_text()
    assert "up to some 3 of them" in (tmp_path / "report.md").read_text() and MANY_RUNS == 24


def test_rank_correlations_are_over_the_mixers_that_have_a_property():
    def row(tau: float | None, numbers: int, bounded: bool | None, psnr: float, change: float) -> dict:
        at = {"1": {"psnr": psnr, "change": 0.0}, "4": {"change": change}}
        return {"tau_end": tau, "L0": 16, "numbers": numbers, "bounded": bounded, "at": at}

    rows = [row(2.0, 8, True, 12, -0.1), row(4.0, 8, False, 13, -0.2), row(8.0, 8, False, 11, -0.4)]
    rows += [row(16.0, 8, True, 16, -0.3), row(None, 0, None, 18, 1.0)]
    found = {row["property"]: (row["n"], row["rho"]["4"]) for row in predictor_rows(rows, [4.0])}
    assert found["log(tau after training / L0)"] == (4, pytest.approx(0.8))  # ranks 1 2 3 4 and 1 2 4 3
    assert found["size of the state"] == (4, None)  # all alike
    assert found["whether the state is bounded (1 or 0)"] == (4, pytest.approx(-0.4472135955))
    assert found["level at L0"] == (5, pytest.approx(-0.6))  # ranks 2 3 1 4 5 and 2 3 5 4 1
    assert predictor_rows(rows[:3], [4.0])[0]["rho"]["4"] is None


@pytest.mark.parametrize(("mean_image", "words"), [(11.0, "hold"), (11.95, "had nothing to lose"), (None, "hold")])
def test_who_holds_a_level_that_the_mean_image_has_had_nothing_to_lose(many, mean_image, words):
    rows = pl.read_parquet(many.frames / "contrasts.parquet").filter(pl.col("name").is_in(["M_gru", "M_attention"]))
    rows = rows.with_columns(verdict=pl.lit(SAME), minus_level=pl.lit(12.0))
    said = length_sentences(many.params, rows, mean_image)
    assert [line.partition(",")[0] for line in said if line.startswith("*")] == [f"* **2 {words.partition(',')[0]}"]
    assert words in said[1]


def test_correlations_that_nothing_has_are_left_out(many, monkeypatch):
    assert (
        mixer_context(many.params, many.frames)["predictors"]
        == mixer_context(many.params, many.frames)["factors"]
        == []
    )
    monkeypatch.setattr(mixers, "FEW_MIXERS", 2)
    assert mixer_context(many.params, many.frames)["predictors"]


def test_the_method_says_that_runs_differ_in_their_mixers(many, tmp_path):
    def said(params) -> str:
        return " ".join(method_lines(params, sample_of(params, pl.read_parquet(many.frames / "curves.parquet"))))

    assert "around the mixer of each run" in said(many.params) and "Mamba-1 blocks" not in said(many.params)
    assert "Runs differ only in their mixers and in what the tables below say." in said(many.params)
    values = json.loads(many.study.read_text())
    values["runs"]["gru"]["model"]["n_layer"] = 7
    (tmp_path / "study.json").write_text(json.dumps(values))
    other = said(load_study(tmp_path / "study.json"))
    assert f"({many.params.model.n_layer} layers, in `gru` 7; width" in other


def test_a_figure_of_pairs_says_how_many_seeds_all_runs_have():
    """In this study some runs have five seeds, and all have three; remedies are tried on some with five."""
    frames = ROOT / "reports/mixers_omniglot/frames"
    params = load_study(frames / "study.json")
    drawn = seeds_drawn(params, frames)
    assert drawn == {"degradation": (3, 3), "mixers": (3, 3), "remedies": (5, 5), "remedies_retention": (5, 5)}
    sample = sample_of(params, pl.read_parquet(frames / "curves.parquet"))
    said = captions(params, sample, drawn=drawn, tried="")
    assert {figure for figure, text in said.items() if SHARED in text} == {"degradation", "mixers"} < set(PAIRED)
    assert "Mean over 3 seeds; 128 test images, 3 seeds" in said["mixers"] and "3 to 5 seeds" in said["curves"]
    assert mixer_context(params, frames)["n_seeds"] == 3


def test_the_page_on_mixers_has_the_numbers_of_the_kept_frames(tmp_path):
    from lgmamba.report import update_readme

    params = load_study(KEPT / "frames/study.json")
    headline = json.loads((KEPT / "headline.json").read_text())
    headline["mixers"] = mixer_headline(mixer_context(params, KEPT / "frames"))
    page = ROOT / "docs/mixers.md"
    (tmp_path / "mixers.md").write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "headline.json").write_text(json.dumps(headline))
    update_readme(tmp_path / "mixers.md", tmp_path / "headline.json")
    assert (tmp_path / "mixers.md").read_text(encoding="utf-8") == page.read_text(encoding="utf-8")

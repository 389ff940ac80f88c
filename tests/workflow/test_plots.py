"""DVC's plots and Snakemake's report name and describe every figure of the default study."""

import re

import polars as pl
import pytest
import yaml

from lgmamba.analysis import FIGURE_CONDITIONS, WITH_PICTURES, figures_of
from lgmamba.analysis.titles import titles
from lgmamba.config.study import load_params
from lgmamba.figures import SUFFIXES
from tests.workflow.checkouts import ROOT

PARAMS = load_params(ROOT / "params.yaml")
FIGURES = figures_of(PARAMS)
CAPTIONS = (ROOT / "workflow" / "report" / "figure.rst").read_text()
AXES = {"step t (patches)", "sequence length T (patches)", "T / L0 (training lengths)", "training length (patches)"}
AXES |= {"optimiser step", "number, pixels or steps"}


def plots() -> dict[str, dict | None]:
    """Entry of `plots` in dvc.yaml -> what it says, with the study's name filled in."""
    text = (ROOT / "dvc.yaml").read_text().replace("${study}", PARAMS.study)
    return {name: entry for listed in yaml.safe_load(text)["plots"] for name, entry in listed.items()}


def words(text: str) -> str:
    return " ".join(text.lower().split())


def captions() -> dict[str, str]:
    """Figure -> its sentences in Snakemake's report."""
    return dict(re.findall(r'^"(\w+)":\n  "(.*)",$', CAPTIONS, re.MULTILINE))


def test_every_figure_has_a_caption_for_snakemakes_report():
    assert list(captions()) == list(FIGURE_CONDITIONS)
    assert all(len(text) > 40 for text in captions().values())


def test_every_figure_of_the_default_study_has_a_plot_and_its_pictures_are_shown():
    numbers = [name for name, entry in plots().items() if entry is not None]
    assert tuple(numbers) == FIGURES
    pictures = [name for name, entry in plots().items() if entry is None]
    assert pictures == [f"reports/{PARAMS.study}/figures/{name}.png" for name in FIGURES if name in WITH_PICTURES]


def test_no_plot_names_a_file_that_no_figure_is():
    made = {f"reports/{PARAMS.study}/figures/{name}.{suffix}" for name in FIGURES for suffix in SUFFIXES}
    named = [name for name, entry in plots().items() if entry is None]
    named += [path for entry in plots().values() if entry is not None for path in entry["y"]]
    assert len(named) > len(FIGURES) and set(named) <= made


@pytest.mark.parametrize("figure", FIGURES)
def test_a_plot_is_of_its_figures_numbers_and_says_what_one_sees(figure):
    entry = plots()[figure]
    ((path, y),) = entry["y"].items()
    assert path == f"reports/{PARAMS.study}/figures/{figure}.csv"
    assert {entry["x"], y} <= set(pl.read_csv(ROOT / path).columns)
    assert entry["x_label"] in AXES
    assert re.search(r"\((dB|steps since read)\)$|^probability$", entry["y_label"])
    assert (ROOT / ".dvc" / "plots" / f"{entry['template']}.json").is_file()

    title, seen = entry["title"].split("\n", maxsplit=1)
    assert title == titles(PARAMS)[figure]
    for clause in re.split(r"[.;]\s|[.;]$", words(seen)):
        assert clause in words(captions()[figure])


def test_every_template_of_plots_is_used():
    used = {entry["template"] for entry in plots().values() if entry is not None}
    assert used == {path.stem for path in (ROOT / ".dvc" / "plots").glob("*.json")}

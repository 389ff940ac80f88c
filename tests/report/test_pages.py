"""What stands on the pages of studies whose frames are kept."""

import re
from pathlib import Path

import pytest

from lgmamba.report import html_page, render
from lgmamba.report.context import gather

ROOT = Path(__file__).parents[2]


def page(study: str, name: str = "report", kind: str = "") -> str:
    frames = ROOT / "reports" / study / "frames"
    return render(f"{kind}{name}.md.jinja", gather(frames / "study.json", frames), rich=False, picture=str)


@pytest.fixture(scope="module")
def repairs() -> str:
    return page("omniglot_repairs")


def test_single_queries_are_shown_where_there_are_no_retention_maps(repairs):
    assert "Retention maps" not in repairs
    assert "Length-adaptive runs are told" not in repairs  # it has none
    assert re.findall(r"\*\*Figure (\d)\. ", repairs) == ["1", "2", "3", "4", "5"]  # none is numbered and left out


def test_the_first_page_says_how_much_of_a_loss_is_one_of_reading_out(repairs):
    (section,) = re.findall(r"## Content and read-out\n\n(.*)", repairs, re.DOTALL)
    told = re.findall(r"^\* `(\w+)` after (\d+) steps", section, re.MULTILINE)
    assert told == [("fixed_256", "6400"), ("uniform_256", "6400")]


def test_a_sweep_of_rates_names_its_runs_below_the_list_of_who_leads():
    html = html_page(page("cifar10_lr"), "title")
    items = re.findall(r"<li>(.*?)</li>", html, re.DOTALL)
    leads = [item for item in items if "<code>told</code>" in item]
    assert len(leads) == 4 and not any("In the figures" in item for item in leads)
    assert "<p>In the figures the runs at 0.0005, 0.001, 0.002 and 0.004 are <code>fixed_5</code>" in html


def test_an_interval_is_not_broken_in_two_lines():
    html = html_page("It falls by 1 dB [\u22121.50, +0.50], see [a, b] and [1](two), 3.", "title")
    assert "[\u22121.50,\u00a0+0.50]" in html and "[a, b]" in html


@pytest.mark.parametrize(("columns", "whole"), [(5, True), (12, False)])
def test_an_interval_is_broken_in_tables_of_many_columns_alone(columns, whole):
    rows = ("| a " * columns + "|", "| --- " * columns + "|", "| [+1.00, +2.00] " * columns + "|")
    assert ("[+1.00,\u00a0+2.00]" in html_page("\n".join(rows), "title")) == whole


@pytest.mark.parametrize(("columns", "wide"), [(8, False), (12, True)])
def test_a_table_of_many_columns_has_the_pages_width(columns, wide):
    rows = ("| a " * columns + "|", "| --- " * columns + "|", "| b " * columns + "|")
    assert ('<div class="table wide">' in html_page("\n".join(rows), "title")) == wide


def test_names_in_tables_may_be_broken_after_an_underscore_and_addresses_may_not():
    html = html_page("a_b\n\n| run |\n| --- |\n| [gated_delta](x_y.html), `a_b` and _c_ |\n", "title")
    assert 'href="x_y.html">gated_<wbr>delta</a>, <code>a_<wbr>b</code> and <em>c</em>' in html
    assert "<p>a_b</p>" in html


def test_lengths_up_to_l0_are_named_so():
    html = page("omniglot", "details")
    assert "| token_1024 up to L0 | uniform_1024 up to L0 |" in html
    assert "at to L0" not in html


def test_one_bare_layer_is_not_called_a_mamba():
    (falls,) = re.findall(r"\* \*\*1 falls:\*\* (.*)", page("in_context", kind="plain_"))
    assert falls.startswith("bare S6 layer \u22128.34 dB")
    undecided = re.findall(r"undecided after Holm's correction:\*\* (.*)", page("in_context", kind="plain_"))
    assert "Mamba-1 \u22120.15 dB" in undecided[0]
    assert "attention (RoPE)" in page("mixers_omniglot")

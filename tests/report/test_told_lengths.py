"""The table of wrong lengths: how it is headed, and whose rows it has."""

from types import SimpleNamespace

import polars as pl

from lgmamba.config.study import load_params
from lgmamba.report import render
from lgmamba.report.told_lengths import told_length_context
from tests.config.studies import ROOT


def test_a_factor_that_is_no_power_of_two_is_told_in_three_digits(tmp_path):
    rows = [{"run": "a", "seed": 0, "step": 50, "told": told, "level": 1.0} for told in (6, 12, 50)]
    pl.DataFrame(rows).write_parquet(tmp_path / "probes_told_lengths.parquet")
    params = SimpleNamespace(the_probes=SimpleNamespace(runs=["a"]))
    assert told_length_context(params, tmp_path)["words"] == ["T / 8.33", "T / 4.17"]


def test_factors_are_in_words_and_rows_in_the_order_of_the_runs(tmp_path):
    levels = {("b", 1): {1: 5.0, 2: 4.0}, ("b", 4): {2: 8.0, 4: 9.0, 16: 7.0}, ("a", 4): {2: 1.0, 4: 1.5}}
    rows = [
        {"run": run, "seed": seed, "step": step, "told": told, "level": level + seed}
        for seed in (0, 1)
        for (run, step), found in levels.items()
        for told, level in found.items()
    ]
    plain = {"run": "plain", "seed": 0, "step": 4, "told": 4, "level": 3.0}
    pl.DataFrame([*rows, plain]).write_parquet(tmp_path / "probes_told_lengths.parquet")
    params = SimpleNamespace(the_probes=SimpleNamespace(runs=["b", "plain", "a"]))
    found = told_length_context(params, tmp_path)
    assert found["words"] == ["T / 2", "2 T", "4 T"]
    assert found["rows"] == [
        {"run": "b", "step": 1, "own": 5.5, "changes": [None, -1.0, None]},
        {"run": "b", "step": 4, "own": 9.5, "changes": [-1.0, None, -2.0]},
        {"run": "a", "step": 4, "own": 2.0, "changes": [-0.5, None, None]},
    ]


def test_a_length_that_was_not_told_leaves_its_cell_empty():
    params = load_params(ROOT / "params.yaml")
    rows = [{"run": "b", "step": 4, "own": 9.5, "changes": [-1.0, None, -2.0]}]
    told = {"words": ["T / 2", "2 T", "4 T"], "rows": rows}
    page = render("told_lengths.md.jinja", {"params": params, "metric": params.task.METRICS[0], "told_lengths": told})
    assert "| run | T | told T | told T / 2 | told 2 T | told 4 T |" in page
    assert "| b | 4 | 9.50 | −1.00 |  | −2.00 |" in page

"""Errors of single queries: numbers and ages in octaves, each training one number."""

from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from lgmamba import analysis
from lgmamba.analysis.asked import asked_frame, written_by_queries
from lgmamba.analysis.files import means_over_seeds


@pytest.fixture
def folders(tmp_path):
    found = []
    for seed in (0, 1):
        rows = [
            {"aspect": aspect, "queries": way, "value": value, "mse": (value + seed) * scale, "count": value}
            for aspect in ("rank", "distance", "told")
            for way, scale in (("sequential", 0.02), ("independent", 0.01))
            for value in (1, 2, 3, 4)
        ]
        path = tmp_path / f"seed{seed}" / "evaluation"
        path.mkdir(parents=True)
        pl.DataFrame(rows).with_columns(run=pl.lit("a"), seed=pl.lit(seed), step=pl.lit(8)).write_parquet(
            path / "asked.parquet"
        )
        found.append(SimpleNamespace(path=path.parent))
    return found


def test_numbers_of_queries_are_put_together_in_octaves_by_their_counts(folders):
    frame = asked_frame(folders)
    ranks = frame.filter(aspect="rank", queries="independent").sort("value")
    assert ranks["value"].to_list() == [1, 2, 4]
    assert ranks["count"].to_list() == [1, 5, 4]
    second = [(2 * (2 + seed) + 3 * (3 + seed)) / 5 * 0.01 for seed in (0, 1)]
    assert ranks.row(1, named=True)["mse"] == pytest.approx(sum(second) / 2)
    assert (ranks["mse_lo"][1], ranks["mse_hi"][1]) == pytest.approx(tuple(second))
    assert set(ranks["n_seeds"]) == {2}
    for aspect in ("distance", "told"):
        assert frame.filter(aspect=aspect, queries="sequential")["value"].to_list() == [1, 2, 3, 4]


def test_what_queries_write_is_the_same_with_and_without_octaves(folders):
    assert written_by_queries(asked_frame(folders))["difference"].to_list() == pytest.approx([-3.0103], abs=1e-3)


def test_frames_are_gathered_by_the_engine_that_adds_up_in_order():
    sources = sorted((Path(analysis.__file__).parent).rglob("*.py"))
    assert [path.name for path in sources if ".collect()" in path.read_text()] == []


def test_means_over_seeds_are_added_up_in_the_order_of_the_seeds():
    rows = pl.LazyFrame({"run": ["a"] * 7, "seed": range(7), "mse": [0.1 * n for n in range(7)], "count": [1.0] * 7})
    plan = means_over_seeds(rows.group_by("run", "seed").agg(pl.all().sum()).sort("run", "seed"), ["run"]).explain()
    assert "SORT BY" in plan  # where the order of the groups is left open, polars leaves out the sort before

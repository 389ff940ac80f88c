"""What the report says of content and read-out, from numbers made up for each case."""

from types import SimpleNamespace

import polars as pl
import pytest

from lgmamba.report.read_outs import read_out_context

TRAINED, REFITTED = {4: 12.0, 16: 20.0}, {4: 15.0, 16: 21.0}
LATE = {
    "content stays": (15.0, 23.0, "loses 5.00 dB and the fitted one gains 2.00 dB: the content is there"),
    "content goes in part": (15.0, 20.0, "80 % of the loss is one of reading out"),
    "content goes faster": (15.0, 11.0, "0 % of the loss is one of reading out"),
    "nothing is lost": (20.5, 20.0, "nothing is lost since L0"),
}


@pytest.mark.parametrize(("trained", "refitted", "words"), LATE.values(), ids=LATE)
def test_a_loss_is_told_as_one_of_content_or_of_reading_out(tmp_path, trained, refitted, words):
    levels = {"trained": TRAINED | {400: trained}, "refitted": REFITTED | {400: refitted}}
    levels["refitted_at_L0"] = levels["refitted"]
    rows = [
        {"run": "a", "seed": seed, "L0": 16, "step": step, "read_out": name, "psnr": value + seed - 0.5}
        | {"features": 8, "fit_images": 32}
        for seed in (0, 1)
        for name, by_step in levels.items()
        for step, value in by_step.items()
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "probes_read_outs.parquet")
    found = read_out_context(SimpleNamespace(the_probes=SimpleNamespace(runs=["a"])), tmp_path)
    early, late = found["sentences"]
    assert "`a` after 4 steps (0.25 L0)" in early
    assert "3.00 dB are there and are not drawn" in early
    assert words in late
    assert found["far"] == [late]
    assert [row["content_change"] for row in found["rows"]] == pytest.approx([-6, 0, refitted - 21])

"""The sequence model's exchange beside that of encoders that see the whole image."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lgmamba.analysis.statistics import effect_of, jackknife, welch
from lgmamba.config.base import ConfigError
from lgmamba.tradeoff.beside import (
    Frontier,
    answers_table,
    beside_frame,
    beside_table,
    encoder_frontiers,
    sequence_frontiers,
)

REPORTS = Path(__file__).parents[2] / "reports"


def frontier(weights, mse, accuracy, name="mlp") -> Frontier:
    """Two trainings a little apart."""
    both = [np.stack([np.array(x) * 0.98, np.array(x) * 1.02]) for x in (mse, accuracy)]
    return Frontier(name, 4, "digits, 8 x 8", tuple(weights), *both, (0.1, 10.0))


def test_frontiers_are_compared_at_the_weights_that_all_have():
    fine = frontier((0.0, 0.1, 0.5, 1.0), (0.02, 0.02, 0.03, 0.04), (50.0, 90.0, 85.0, 90.0))
    coarse = frontier((0.0, 0.5, 1.0), (0.02, 0.03, 0.04), (50.0, 70.0, 90.0), "sequence model")
    frame = beside_frame([coarse], [fine], 0.95)
    assert frame["weights"].to_list() == [[0.0, 0.5, 1.0]] * 2
    assert frame["area"].to_list() == pytest.approx([0.5, 0.125 * 1.5 / 2 + 0.875 / 4])  # not that of the corner at 0.1
    assert frame["more"][1] == pytest.approx(frame["area"][0] - frame["area"][1]) and frame["more"][0] is None
    flat = frontier((0.0, 0.5, 1.0), (0.02, 0.02, 0.02), (50.0, 70.0, 90.0), "sequence model")
    assert beside_frame([flat], [fine], 0.95)["area"][0] is None
    assert "| sequence model | 4 | digits, 8 x 8 | 2 | 0.00 " in beside_table(beside_frame([flat], [fine], 0.95))
    with pytest.raises(ConfigError, match=r"weights in common: found \[0\.0, 1\.0\], expected 0, 1 and at least one"):
        beside_frame([coarse.at([0.0, 1.0])], [fine], 0.95)


def test_the_jackknife_of_a_mean_is_its_samples_and_differences_are_welch():
    values = np.array([1.0, 4.0, 2.0, 5.5])
    assert jackknife(np.mean, values) == pytest.approx(values)
    assert np.isnan(jackknife(lambda x: np.nan if len(x) < 4 else x.mean(), values)).all()
    other = np.array([0.5, 0.25, 3.0])
    expected = stats.ttest_ind(values, other, equal_var=False).confidence_interval(0.9)
    assert welch(values, other, 0.9) == pytest.approx((values.mean() - other.mean(), *expected))
    assert welch(values[:1], other, 0.9)[0] == pytest.approx(-0.25) and np.isnan(welch(values[:1], other, 0.9)[1])
    assert effect_of(jackknife(np.mean, values).tolist(), 0.95).effect == pytest.approx(values.mean())


def test_the_page_has_the_tables_of_the_frames_in_git():
    page = (REPORTS.parent / "docs/tradeoff.md").read_text(encoding="utf-8")
    blocks = [block.split("<!-- end -->")[0] for block in page.split("<!-- lgmamba tradeoff beside ")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        command, written = block.split(" -->\n", 1)
        words = command.split()
        encoders = words[1] if words[0] == "--encoders" else "reports/tradeoff/frames"
        folders = [REPORTS.parent / word for word in words if word not in ("--encoders", encoders)]
        sequences = [frontier for folder in folders for frontier in sequence_frontiers(folder)]
        frame = beside_frame(sequences, encoder_frontiers(REPORTS.parent / encoders), 0.95)
        table, answers = re.split(r"\n### The six questions.*\n\n", written)
        assert table == beside_table(frame)
        assert answers == answers_table(folders)
    with pytest.raises(
        ConfigError, match=r"reports/tradeoff/frames: expected exchange\.parquet, of a study whose runs"
    ):
        sequence_frontiers(REPORTS / "tradeoff/frames")

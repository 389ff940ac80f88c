"""The matrix of remedies by studies: what a cell says, and why some say nothing."""

from pathlib import Path

import polars as pl
import pytest

from lgmamba.analysis.contrasts import DESCRIBED, OPPOSITE, SAME, SHOWN, UNDECIDED, UNTESTABLE
from lgmamba.analysis.matrix import kept_studies, matrix_frame
from lgmamba.config.study import load_params
from lgmamba.files import to_json, write_atomic
from lgmamba.report.matrix import BLOCKS, matrix_signs, matrix_table
from tests.workflow.checkouts import ROOT

AHEAD = {  # name of an entry -> per training, how far it is ahead of each of two controls
    "dt_uniform": ([5, 6, 5, 7, 6], [9, 2, 9, 9, 9]),
    "dt_layer_zo": ([0.1, 0, -0.1, 0.2, 0], [50] * 5),
    "deci": ([-20, -21, -22, -20, -21], [3, 3, 3, 3, 3]),
    "window": ([-40, 30, 0, 10, -8], [40, 40, 40, 40, 40]),
}


def keep(reports: Path, study: str, seeds: int = 5, preset: str = "mqar") -> None:
    """The frames that the matrix reads of a study."""
    params = load_params(ROOT / "params.yaml", preset=preset, overrides={"study": study})
    frames = reports / study / "frames"
    frames.mkdir(parents=True)
    write_atomic(frames / "study.json", to_json(params.model_dump(mode="json")))
    named = {"run": "mamba_16", "order": params.remedy_evaluation.orders[0]}
    rows = [
        named | {"remedy": name, "step": 64, "against": against, "per_seed": [float(v) for v in values[:seeds]]}
        for name, both in AHEAD.items()
        for against, values in zip(("vanilla", "freeze"), both, strict=True)
    ]
    rows += [row | {"step": 32, "per_seed": [99.0] * seeds} for row in rows]
    rows += [row | {"against": "itself at L0", "per_seed": [-99.0] * seeds} for row in rows]
    pl.DataFrame(rows).write_parquet(frames / "remedies_differences.parquet")


def test_each_training_is_compared_with_its_own_best_control(tmp_path):
    keep(tmp_path, "one")
    found = {row["entry"] or row["remedy"]: row for row in matrix_frame(kept_studies(tmp_path)).to_dicts()}
    assert found["dt_uniform"]["effect"] == pytest.approx((5 + 2 + 5 + 7 + 6) / 5)
    assert {name: found[name]["verdict"] for name in AHEAD} == {
        "dt_uniform": SHOWN,
        "dt_layer_zo": SAME,
        "deci": OPPOSITE,
        "window": UNDECIDED,
    }
    assert found["windows"]["verdict"] == UNTESTABLE
    assert found["windows"]["reason"] == "not read at 4 L0"
    assert found["Mamba Modulation"]["reason"] == "not tried"


def test_the_correction_is_over_all_cells_and_few_trainings_have_no_verdict(tmp_path):
    keep(tmp_path, "one")
    alone = matrix_frame(kept_studies(tmp_path)).filter(entry="dt_uniform")["p_holm"][0]
    keep(tmp_path, "other")
    keep(tmp_path, "small", seeds=3)
    both = matrix_frame(kept_studies(tmp_path))
    assert both.filter(entry="dt_uniform", study="one")["p_holm"][0] > alone
    assert both.filter(entry="deci", study="small").select("verdict", "p_holm", "n_seeds").row(0) == (
        DESCRIBED,
        None,
        3,
    )


def test_the_table_says_what_is_refused_and_of_which_tasks_nothing_is_kept(tmp_path):
    keep(tmp_path, "one")
    keep(tmp_path, "two", preset="automaton")
    table = matrix_table(matrix_frame(kept_studies(tmp_path)))
    assert table.startswith("| | step sizes × L0/T | MambaExtend | Mamba Modulation | ")
    assert "\n| mqar: [`one`](../reports/one/report.md) | better, +5.0 [+2.7, +7.3] | " in table
    assert "\n| automaton: [`two`](../reports/two/report.md) | better, +5.0" in table
    assert "Refused for `automaton`: Stuffed Mamba, window, assembly from windows; every symbol moves" in table
    assert "No study with remedies is kept of `draw`" in table


def test_signs_say_the_verdicts_and_a_study_that_tried_nothing_is_left_out(tmp_path):
    keep(tmp_path, "one")
    keep(tmp_path, "two", seeds=3)
    keep(tmp_path, "without")
    frame = pl.read_parquet(tmp_path / "without/frames/remedies_differences.parquet")
    frame.clear().write_parquet(tmp_path / "without/frames/remedies_differences.parquet")
    lines = matrix_signs(matrix_frame(kept_studies(tmp_path))).splitlines()
    assert [line.split(" | ")[:5] for line in lines[2:4]] == [
        ["| mqar: [one](reports/one/report.md)", "+", "=", "", "−"],
        ["| mqar: [two](reports/two/report.md)", "few", "few", "", "few"],
    ]
    assert lines[4] == ""


@pytest.mark.parametrize(("page", "block"), [("docs/other_tasks.md", "matrix"), ("README.md", "matrix_signs")])
def test_the_pages_have_what_the_kept_frames_say(page, block):
    table = BLOCKS[block](matrix_frame(kept_studies(ROOT / "reports")))
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"<!-- generated:{block} -->\n{table}\n" in text, f"lgmamba matrix --page {page} writes it anew"

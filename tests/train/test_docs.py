"""What the documentation shows in Python runs as it stands."""

import re
from pathlib import Path

import pytest

from tests.train.tiny import build_digits, tiny_run, train_at

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "blocks", "study"), [("checkpoints.md", 3, "digits"), ("data.md", 1, "queried_digits")]
)
def test_the_code_of_a_page_runs_from_its_first_line_to_its_last(tmp_path, monkeypatch, capsys, page, blocks, study):
    images = build_digits(tmp_path / "data" / study)
    if page == "checkpoints.md":
        train_at(tmp_path / "results/digits/runs/uniform_16/seed0", tiny_run(), images)
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(code) == blocks
    names: dict = {}
    exec("\n".join(code), names)
    assert len(names["data"].images) > 0
    if page == "checkpoints.md":
        assert names["pictures"].shape == names["drawn"].shape == (4, 3, 1, 8, 8)
        assert names["backwards"].shape == (1, 1, 8, 8)
        assert names["picture"].shape == (4, 1, 8, 8)
        assert capsys.readouterr().out.startswith("{")

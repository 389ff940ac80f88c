"""What the documentation shows in Python runs as it stands."""

import re
from pathlib import Path

import pytest

from tests.train.tiny import build_digits, tiny_run, train_at

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("page", "blocks"), [("checkpoints.md", 2), ("data.md", 1)])
def test_the_code_of_a_page_runs_from_its_first_line_to_its_last(tmp_path, monkeypatch, capsys, page, blocks):
    home = tmp_path / "results/digits/runs/uniform_16/seed0"
    build_digits(tmp_path / "data/digits")
    train_at(home, tiny_run(), tmp_path / "data/digits")
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(code) == blocks
    names: dict = {}
    exec("\n".join(code), names)
    assert len(names["data"].images) > 0
    if page == "checkpoints.md":
        assert names["drawn"].shape == (4, 3, 1, 8, 8)
        assert names["picture"].shape == (4, 1, 8, 8)
        assert capsys.readouterr().out.startswith("{")

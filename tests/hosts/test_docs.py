"""docs/hosts.md is run as it stands, but smaller; then the command line reads the model that it saved."""

import re
from pathlib import Path

import pytest

from lgmamba.hosts.loading import load_tokens
from tests.cli.programs import Caller
from tests.figures.thumbnails import thumbnails

PAGE = Path(__file__).parents[2] / "docs" / "hosts.md"


@pytest.fixture
def lgmamba(monkeypatch, capsys):
    return Caller(monkeypatch, capsys)


@pytest.fixture
def small_figures():
    """`test_watch_and_audit.py` draws a page as it is."""
    with thumbnails(laid_out=False):
        yield


def test_the_walk_and_the_command(tmp_path, monkeypatch, lgmamba, small_figures):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[lm]'")
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    smaller = {
        "L0, STEPS = 64, 400": "L0, STEPS = 8, 3",
        "hidden_size=64": "hidden_size=8",
        "state_size=16": "state_size=4",
        "length_ratios=(1, 2, 4, 8), windows=16": "length_ratios=(1, 2), windows=3",
        "(8 * L0 + 1)": "(2 * L0 + 1)",
        "(16, 1)": "(2, 1)",
        "steps=10": "steps=1",
    }
    for old, new in smaller.items():
        assert old in code
        code = code.replace(old, new)
    exec(compile(code, str(PAGE), "exec"), {})
    assert Path("audit/audit.html").is_file() and Path("values/step_size.json").is_file()

    Path("text.txt").write_text("To be, or not to be, that is the question. " * 40)
    Path("remedies.yaml").write_text("remedies:\n- {name: mine, kind: step_size, form: power, mode: stream}\n")
    words = [
        "audit",
        "code-mamba",
        "--L0",
        8,
        "--out",
        "page",
        "--text",
        "text.txt",
        "--windows",
        2,
        "--length-ratio",
        2,
        "--remedies",
        "remedies.yaml",
    ]
    ended = lgmamba(*words, "--device", "cpu")
    assert ended.code == 1 and "--bytes" in ended.err and not Path("page").exists()
    ended = lgmamba(*words, "--device", "cpu", "--bytes", "--passkey", "--L0", 150)
    assert ended.code == 0, ended.err
    assert "tokens" in ended.out.splitlines()[0] and Path("page/passkey.parquet").is_file()
    assert "mine" in (page := Path("page/audit.html").read_text()) and "Recall of a number" in page
    monkeypatch.setattr(
        "huggingface_hub.constants.HF_HUB_OFFLINE", True
    )  # without a network it is asked for again and again
    ended = lgmamba("audit", "nowhere", "--L0", 8, "--out", "page2", "--bytes", "--device", "cpu")
    assert ended.code == 1 and "nowhere" in ended.err and "Traceback" not in ended.err
    Path("empty").mkdir()
    ended = lgmamba("audit", "empty", "--L0", 8, "--out", "page2", "--bytes", "--device", "cpu")
    assert ended.code == 1 and "found no config.json" in ended.err


def test_texts_are_files_and_folders_and_pythons_own_sources(tmp_path):
    def encode(text):
        return list(text.encode())

    (tmp_path / "b.txt").write_text("bb")
    (tmp_path / "a.txt").write_text("a")
    assert bytes(load_tokens(encode, [tmp_path], 99).tolist()) == b"a\nbb"
    assert len(load_tokens(encode, [], 5000)) == 5000
    (tmp_path / "c.txt").write_bytes(b"\0\1")
    with pytest.raises(ValueError, match=r"c\.txt: found bytes that are no text"):
        load_tokens(encode, [tmp_path / "c.txt"], 99)

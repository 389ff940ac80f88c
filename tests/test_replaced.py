"""No test replaces a function of torch: torch makes tables of its functions when it first needs them, and what was replaced just then
would be missing there in every later test of the process. What is drawn, `tests/drawn.py` says."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
REPLACED = re.compile(r"(setattr|patch(\.object)?)\(\s*(torch|F|torch\.Tensor|torch\.nn\.functional)\s*,")


def test_no_test_replaces_a_function_of_torch():
    assert not [path for path in TESTS.rglob("*.py") if REPLACED.search(path.read_text(encoding="utf-8"))]

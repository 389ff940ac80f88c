"""No test depends on the clock: on a busy machine every number of seconds is too few."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
CLOCK = re.compile(r"\btime\.(time|monotonic|perf_counter|process_time)(_ns)?\(|\bdatetime\.(now|utcnow|today)\(")
WAITS = {TESTS / "waiting.py"}
"""Ends what hangs for an hour."""


def test_no_test_reads_the_clock():
    found = [path for path in TESTS.rglob("*.py") if CLOCK.search(path.read_text(encoding="utf-8"))]
    assert set(found) == WAITS

"""The example in the documentation runs as it stands."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "selective_scan.md").read_text()


def test_the_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/selective_scan.md", "exec"), {})

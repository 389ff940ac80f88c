"""YAML that each process of the tests reads once, however often it is loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from unittest.mock import patch

from ruamel.yaml import YAML

from lgmamba.config import text


@contextmanager
def read_once() -> Iterator[None]:
    """In its `with` block a text that was read before is not read again; who loads it gets a copy.

    The reader, all Python, takes a tenth of a second for params.yaml, and hundreds of tests load that and a preset or two. What it
    cannot read is not kept, so that every wrong text is refused by the reader itself.
    """
    known: dict[str, Any] = {}

    class Once(YAML):
        def load(self, stream: str) -> Any:
            if stream not in known:
                known[stream] = super().load(stream)
            return deepcopy(known[stream])

    with patch.object(text, "YAML", Once):
        yield

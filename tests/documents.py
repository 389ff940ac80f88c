"""YAML that each process of the tests reads once, and templates that it compiles once, however often they are loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from types import CodeType
from typing import Any
from unittest.mock import patch

from jinja2 import Environment
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


@contextmanager
def compiled_once() -> Iterator[None]:
    """In its `with` block a template that was compiled before is not compiled again; each report compiles its dozen anew."""
    known: dict[tuple, CodeType] = {}
    compile_template = Environment.compile

    def compile_once(self: Environment, source: Any, *args: Any, **more: Any) -> Any:
        if more or not isinstance(source, str):  # not what loading a template asks for
            return compile_template(self, source, *args, **more)
        form = (
            self.trim_blocks,
            self.lstrip_blocks,
            self.keep_trailing_newline,
            self.autoescape,
            *sorted(self.filters),
        )
        key = (source, args, form)
        if key not in known:
            known[key] = compile_template(self, source, *args)
        return known[key]

    with patch.object(Environment, "compile", compile_once):
        yield

"""YAML as this project reads it: params.yaml, presets, overlays and values typed on a command line, all by one reader.

YAML 1.2, where a value is what was typed: `0500` is 500, `2:30` and `no` are texts, `1e3` is a number. A key that stands
twice, a date (it stays a text), a file of another encoding, a document without end: each has one answer, which names the
file and the line.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.constructor import ConstructorError, DuplicateKeyError, SafeConstructor
from ruamel.yaml.reader import ReaderError

from lgmamba.config.base import ConfigError, in_yaml

MOST_BYTES = 1 << 18
MOST_VALUES = 20_000
"""Values in one document, each time that an anchor is used counted again: a study has some hundreds."""
DEEPEST = 24
"""Levels of mappings and lists; params.yaml has 8."""
TOO_DEEP = f"nested more than {DEEPEST} levels deep, expected a study as in params.yaml"


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping.

    Raises:
        ConfigError: no such file, unreadable, no UTF-8 (or UTF-16 with its mark), or `parse_mapping`'s.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ConfigError(f"{path}: {'a folder, expected a YAML file' if path.is_dir() else 'no such file'}")
        content = path.read_bytes()
    except OSError as e:
        raise ConfigError(f"{path} cannot be read: {e.strerror}") from None
    return parse_mapping(_decoded(content, str(path)), str(path))


def parse_mapping(text: str, source: str) -> dict[str, Any]:
    """A YAML document whose top level is a mapping.

    Args:
        source: where the text comes from, for messages.
    Raises:
        ConfigError: no valid YAML, or another kind of document; with the line.
    """
    values = parse(text, source)
    if not isinstance(values, dict):
        raise ConfigError(
            f"{source}: expected a mapping of sections (`key: value`) at the top level, found {_kind(values)}"
        )
    return values


def parse(text: str, source: str) -> Any:
    """Any YAML value: mappings, lists, texts, numbers, true, false and null.

    Raises:
        ConfigError: no valid YAML, a key twice, too large or too deep, or a value of another type; with the line.
    """
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{source}: {len(text):,} characters, expected at most {MOST_BYTES:,}; is this a study?")
    try:
        reader = YAML(typ="safe", pure=True)
        reader.Constructor, reader.Composer = _Constructor, _Composer
        values = reader.load(text)
    except YAMLError as e:
        raise ConfigError(_problem(e, source, text)) from None
    _check(values, source)
    return values


class _Composer(Composer):
    """Stops at the first bracket that lies too deep."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST + 1:
            raise ComposerError(None, None, TOO_DEEP, self.parser.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Constructor(SafeConstructor):
    """Safe, and leaves as text what only looks like a date; a number too long to read has a line."""

    def construct_yaml_int(self, node: Any) -> int:
        return self._read(super().construct_yaml_int, node, "a number of at most 64 bits")

    def construct_yaml_float(self, node: Any) -> float:
        return self._read(super().construct_yaml_float, node, "a number of at most 64 bits")

    def construct_yaml_bool(self, node: Any) -> bool:
        return self._read(super().construct_yaml_bool, node, "true or false")

    @staticmethod
    def _read(read: Callable[[Any], Any], node: Any, expected: str) -> Any:
        try:
            value = read(node)
            if isinstance(value, int) and abs(value) >= 1 << 64:
                raise OverflowError
        except (KeyError, ValueError, OverflowError):
            found = node.value if len(node.value) < 40 else f"{node.value[:20]}... of {len(node.value)} characters"
            raise ConstructorError(None, None, f"{found} cannot be read as {expected}", node.start_mark) from None
        return value

    def construct_text(self, node: Any) -> str:
        return node.value


for _name, _read in (
    ("int", _Constructor.construct_yaml_int),
    ("float", _Constructor.construct_yaml_float),
    ("bool", _Constructor.construct_yaml_bool),
    ("timestamp", _Constructor.construct_text),
    ("value", _Constructor.construct_text),
):
    _Constructor.add_constructor(f"tag:yaml.org,2002:{_name}", _read)


def _decoded(content: bytes, source: str) -> str:
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as e:
        line = content[: e.start].count(b"\n") + 1
        raise ConfigError(
            f"{source}, line {line}: byte 0x{content[e.start]:02x} is no UTF-8; save the file as UTF-8 (perhaps it is Latin-1)"
        ) from None


def _problem(error: YAMLError, source: str, text: str) -> str:
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"{source}, line {line}: not valid YAML: the character {chr(error.character)!r} may not stand in it"
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = source if mark is None else f"{source}, line {mark.line + 1}"
    problem = getattr(error, "problem", None) or str(error).strip().split("\n")[0]
    if isinstance(error, DuplicateKeyError):
        return f"{where}: {problem}; a key may stand once, rename or remove one"
    context = getattr(error, "context", None)
    if problem == TOO_DEEP:
        return f"{where}: {problem}"
    return f"{where}: not valid YAML: {f'{context}, ' if context else ''}{problem}"


def _check(values: Any, source: str) -> None:
    """Bounds on size and depth with anchors written out, and no type that JSON does not have."""
    n, todo = 0, [(values, 0, "")]
    while todo:
        value, depth, path = todo.pop()
        n += 1
        if depth > DEEPEST:
            raise ConfigError(f"{source}: {TOO_DEEP}")
        if n > MOST_VALUES:
            raise ConfigError(
                f"{source}: more than {MOST_VALUES:,} values with its anchors written out; is this a study?"
            )
        if isinstance(value, dict):
            _check_keys(value, path, source)
            todo += [(item, depth + 1, f"{path}.{key}" if path else str(key)) for key, item in value.items()]
        elif isinstance(value, list):
            todo += [(item, depth + 1, f"{path}.{i}") for i, item in enumerate(value)]
        elif isinstance(value, str):
            _check_text(value, path, source)
        elif value is not None and not isinstance(value, bool | int | float):
            raise ConfigError(f"{source}: {path or 'the document'}: found {_kind(value)}, expected a text or a number")


def _check_keys(mapping: dict[Any, Any], path: str, source: str) -> None:
    seen: set[str] = set()
    for key in mapping:
        if isinstance(key, bool) or not isinstance(key, str | int | float):
            raise ConfigError(
                f"{source}: {path or 'top level'}: found the key {in_yaml(key)}, expected a text or a number"
            )
        _check_text(str(key), path, source)
        if str(key) in seen:  # 4 and "4"
            raise ConfigError(f"{source}: {path or 'top level'}: the key {key} stands twice; rename or remove one")
        seen.add(str(key))


def _check_text(text: str, path: str, source: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{source}: {path}: {text!r} holds half a character, which no file can") from None


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    known: dict[type, str] = {dict: "a mapping", list: "a list", str: f"the text {value!r:.60}"}
    return known.get(type(value), f"a {type(value).__name__}")

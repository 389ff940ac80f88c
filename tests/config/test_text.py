"""YAML is read as it was typed, and what cannot be read is told in one message with its file and line."""

import pytest

from lgmamba.config.base import ConfigError
from lgmamba.config.study import load_params
from lgmamba.config.text import DEEPEST, MOST_VALUES, parse_mapping, read_yaml
from tests.config.studies import PARAMS, PRESETS, ROOT

LAUGH = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcd", "bcde", strict=True)
)
"""A few lines that stand for a hundred thousand values."""

AS_TYPED = {
    "0500": 500,
    "2:30": "2:30",
    "no": "no",
    "off": "off",
    "1e3": 1000.0,
    "3.0e-3": 0.003,
    "2024-01-01": "2024-01-01",
    "=": "=",
    "true": True,
    "null": None,
    "~": None,
    "ü 🙂": "ü 🙂",
}
WRONG = {
    "a key twice": (b"a: 1\nb: {c: 1, c: 2}\n", 'line 2: found duplicate key "c"'),
    "a key twice at the top": (b"runs: {}\n\nruns: {}\n", 'line 3: found duplicate key "runs"'),
    "a number and its text": (b'w: {4: 1, "4": 2}\n', "w: the key 4 stands twice"),
    "Latin-1": ("a: 1\nb: f\u00fcr\n".encode("latin-1"), "line 2: byte 0xfc is no UTF-8; save the file as UTF-8"),
    "UTF-16 without its mark": ("a: 1\n".encode("utf-16-le"), "line 1: not valid YAML: the character '\\x00'"),
    "a number of 5000 digits": (b"a: 1\nb: " + b"9" * 5000, "line 2: not valid YAML: 99999999999999999999..."),
    "a number of 30 digits": (b"b: " + b"9" * 30, "cannot be read as a number of at most 64 bits"),
    "a hexadecimal number without end": (b"b: 0x" + b"f" * 50_000, "cannot be read as a number of at most 64 bits"),
    "brackets without end": (b"a: " + b"[" * 5_000, f"nested more than {DEEPEST} levels"),
    "mappings without end": (b"a: " + b"{a: " * 50_000, f"line 1: nested more than {DEEPEST} levels"),
    "a list within itself": (b"a: &a [*a]", f"nested more than {DEEPEST} levels"),
    "anchors on anchors": (LAUGH.encode(), f"more than {MOST_VALUES:,} values with its anchors written out"),
    "a large file": (b"#" * 300_000, "300,000 characters, expected at most 262,144"),
    "a list": (b"- 1\n", "expected a mapping of sections (`key: value`) at the top level, found a list"),
    "a text": (b"hello\n", "at the top level, found the text 'hello'"),
    "nothing": (b"", "at the top level, found nothing"),
    "two documents": (b"a: 1\n---\nb: 2\n", "line 2: not valid YAML: expected a single document"),
    "an open bracket": (b"a: [1\n", "line 2: not valid YAML: while parsing a flow sequence"),
    "a tab": (b"a:\n\tb: 1\n", "line 2: not valid YAML: while scanning for the next token"),
    "an anchor that is not there": (b"a: *x\n", "line 1: not valid YAML: found undefined alias 'x'"),
    "a Python object": (b'a: !!python/object/apply:os.system ["x"]\n', "line 1: not valid YAML: could not determine"),
    "no number behind its tag": (b"a: !!int x\n", "line 1: not valid YAML: x cannot be read as a number"),
    "no truth behind its tag": (b"a: !!bool x\n", "line 1: not valid YAML: x cannot be read as true or false"),
    "bytes": (b"a: {b: !!binary aGk=}\n", "a.b: found a bytes, expected a text or a number"),
    "a set": (b"a: !!set {x, y}\n", "a: found a set, expected a text or a number"),
    "half a character": (b'a: "\\uD800"\n', "a: '\\ud800' holds half a character"),
    "a list as key": (b"? [1]\n: 2\n", "top level: found the key (1,), expected a text or a number"),
    "true as key": (b"a: {true: 1}\n", "a: found the key true, expected a text or a number"),
}


@pytest.mark.parametrize("text", AS_TYPED)
def test_a_value_is_what_was_typed(text):
    assert parse_mapping(f"a: {text}", "here") == {"a": AS_TYPED[text]}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_read_is_told_with_file_and_line(tmp_path, kind):
    content, message = WRONG[kind]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as e:
        read_yaml(path)
    assert str(e.value).startswith(str(path))
    assert message in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_every_unicode_encoding_with_a_mark_are_read(tmp_path, encoding):
    (tmp_path / "mine.yaml").write_bytes("note: für 🙂\n".encode(encoding))
    assert read_yaml(tmp_path / "mine.yaml") == {"note": "für 🙂"}


def test_missing_files_and_folders_are_told(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file"):
        read_yaml(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="a folder, expected a YAML file"):
        read_yaml(tmp_path)


def test_a_run_may_be_named_no(tmp_path):
    """Also on the way of an overlay; YAML 1.1 would read false."""
    (tmp_path / "mine.yaml").write_text(
        "runs: {no: {}, uniform_16: {}, adaptive_16: {model: {adaptive: *a}}}\n".replace(
            "*a", "{kind: film, features: T, hidden: 8, beyond: clamp}"
        )
    )
    assert list(load_params(PARAMS, "smoke", read_yaml(tmp_path / "mine.yaml")).runs) == [
        "no",
        "uniform_16",
        "adaptive_16",
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_say_the_same_in_either_version_of_yaml(preset):
    """Who reads them with another library sees the same study; only a date is a text here."""
    import yaml

    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)
    path = ROOT / "workflow/presets" / f"{preset}.yaml"
    assert read_yaml(path) == yaml.load(path.read_text(encoding="utf-8"), loader)

"""Strict configuration models, and validation errors that a person can act on.

Every configuration class of the project derives from `Strict`: an unknown key is an error, and a validated object
never changes. `explain` turns pydantic's error into one line per problem: the key's path, what was found, what was
expected, and for a misspelt key the nearest one that exists.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

NAME = r"^[A-Za-z][A-Za-z0-9_]*$"
NAME_IN_WORDS = "letters (a to z, A to Z), digits and _; starts with a letter; 64 at most"
MAPPING = "keys with values"
IN_WORDS = {
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), MAPPING),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "string_type": "a text",
    "path_type": "a path",
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"),
        "a day such as 2026-11-26",
    ),
}
"""What pydantic calls a value of another type than is needed -> what is needed, in words of YAML."""
Name = Annotated[
    str,
    Field(pattern=NAME, max_length=64, description=NAME_IN_WORDS),  # it becomes part of file names
]
Positive = Annotated[int, Field(ge=1, lt=1 << 31)]
Width = Annotated[int, Field(ge=1, le=1 << 16)]
Multiple = Annotated[float, Field(ge=1, le=1e6)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]

LONGEST = 1_000_000
"""Longest sequence that anything is asked for, patches."""


def check_folder(path: Path) -> Path:
    """A folder that every tool of the workflow can name.

    Raises:
        ValueError: control characters, braces (Snakemake's wildcards), or names that are too long for a file system.
    """
    text = str(path)
    if any(ord(c) < 32 or c in "{}" for c in text):
        raise ValueError(
            "a folder without braces and control characters in its name; Snakemake takes braces for wildcards"
        )
    if max(len(part.encode()) for part in (*path.parts, "")) > 200 or len(text.encode()) > 2000:
        raise ValueError("a folder with names of at most 200 bytes, and 2000 in all")
    return path


Folder = Annotated[Path, AfterValidator(check_folder)]


class Strict(BaseModel):
    """A frozen configuration object that accepts no unknown key, no NaN or infinity, and no true or false.

    No key here is a switch, and pydantic would take true and false for 1 and 0.

    Attributes:
        RENAMED: a key of an older version -> what it is called now; a person who writes the old one is told the new one, and
            files that a program wrote are read (`with_new_names`).
    """

    RENAMED: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _no_switch(cls, values: Any) -> Any:
        for key, value in values.items() if isinstance(values, dict) else ():
            if any(isinstance(v, bool) for v in (value if isinstance(value, list) else [value])):
                raise ValueError(f"a number or a text for {key}, which is no switch; got {key}: {_short(value)}")
        return values


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, what was found and what was expected."""


M = TypeVar("M", bound=Strict)


def validate(model: type[M], values: Any, source: str) -> M:
    """Build `model` from plain values.

    Args:
        values: mapping as read from YAML or JSON.
        source: where the values come from (a file name), for the message.
    Raises:
        ConfigError: one line per problem.
    """
    try:
        return model.model_validate(values)
    except ValidationError as e:
        raise ConfigError(f"{source} is invalid:\n{explain(e, model)}") from None


def with_new_names(values: Any, model: Any) -> Any:
    """Values of a file that an older version wrote, with every key called what it is called now.

    Args:
        values: as read from JSON.
        model: the class, or any annotation, that they are values of.
    """
    if isinstance(values, list):
        return [with_new_names(value, _descend(model, i)) for i, value in enumerate(values)]
    if not isinstance(values, dict):
        return values
    named = {key: new if (new := _renamed_at(model).get(key)) and new not in values else key for key in values}
    return {named[key]: with_new_names(value, _descend(model, named[key])) for key, value in values.items()}


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line per problem: key path, value found, what was expected, nearest key for a typo."""
    return "\n".join(f"  {line}" for line in problems(error, model))


def problems(error: ValidationError, model: type[BaseModel], under: str = "") -> list[str]:
    """The lines of `explain`; `under` is the path of `model` itself in the file."""
    return [_line(choices, model, under) for choices in _by_value(error.errors(), model)]


def unknown_key(path: str, value: Any, known: Iterable[str], renamed: Mapping[str, str] | None = None) -> str:
    """The line for a key that does not exist, with what it is called now, or with the nearest of those that do."""
    if new := (renamed or {}).get(path.rpartition(".")[2]):
        return f"{path}: unknown key (value {_short(value)}); it is called {new!r} now"
    near = difflib.get_close_matches(path.rpartition(".")[2], list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(sorted(known))}"
    return f"{path}: unknown key (value {_short(value)}); {hint}"


def _by_value(errors: list[ErrorDetails], model: type[BaseModel]) -> list[list[ErrorDetails]]:
    """Problems, each alone, except that one value may be refused as each of several types: these are together.

    Where an entry of a list is wrong, the value was meant to be one, and nothing is said of the other types.
    """
    found: dict[tuple, list[ErrorDetails]] = {}
    for i, problem in enumerate(errors):
        at = _choice_at(model, problem["loc"])
        found.setdefault((i,) if at is None else ("choice", *problem["loc"][:at]), []).append(problem)
    groups = []
    for choices in found.values():
        longest = max(len(problem["loc"]) for problem in choices)
        deeper = [problem for problem in choices if len(problem["loc"]) == longest]
        groups += [choices] if len(deeper) == len(choices) else [[problem] for problem in deeper]
    return groups


def _line(choices: list[ErrorDetails], model: type[BaseModel], under: str) -> str:
    """The line for a value; `choices`: why it is none of several types, or what is wrong with it."""
    problem = choices[0]
    loc, value = problem["loc"], problem["input"]
    lacks_entry = problem["type"] == "missing" and isinstance(loc[-1], int)
    loc = loc[:-1] if lacks_entry else loc
    path = ".".join(([under] if under else []) + _written(model, loc))
    expected = " or ".join(_expected(choice) for choice in choices)
    if (n := _entries(_at(model, loc))) and (lacks_entry or problem["type"] in ("tuple_type", "too_long")):
        return f"{path}: found {_short(value)}, expected: a list of {n} entries"
    if problem["type"].startswith("union_tag") and isinstance(value, dict):
        return _kind_line(path, value, _kinds(_at(model, loc)))
    if IN_WORDS.get(problem["type"]) == MAPPING and value in map(str, _kinds(_at(model, loc))):
        expected = f"{MAPPING}; did you mean {{kind: {value}}}?"
    if problem["type"] == "extra_forbidden":
        there = _at(model, loc[:-1])
        return unknown_key(path, value, _keys_of(there), _renamed_at(there))
    if problem["type"] == "invalid_key":  # a number, where keys are texts
        return f"{path}: unknown key; known keys here: {', '.join(_keys_of(_at(model, loc[:-1])))}"
    if problem["type"] == "missing":
        return f"{path}: required key is missing"
    if problem["type"] == "value_error" and re.match(r"[\w.]+: found ", expected):  # the rule names a key below
        return f"{path}.{expected}" if path else expected
    if problem["type"] == "value_error" and isinstance(value, dict | BaseModel):  # the rule quotes the keys
        return f"{path}: expected: {expected}" if path else expected
    return f"{path or '(top level)'}: found {_short(value)}, expected: {expected}"


def _expected(problem: ErrorDetails) -> str:
    """What was expected, in words of YAML."""
    kind, about = problem["type"], problem.get("ctx", {})
    if about.get("pattern") == NAME:
        return NAME_IN_WORDS
    if kind in ("too_short", "too_long", "string_too_short", "string_too_long"):
        bound, n = ("least", about["min_length"]) if kind.endswith("short") else ("most", about["max_length"])
        if kind.startswith("string"):
            return f"a text of at {bound} {n} character{'s' * (n != 1)}"
        if about["field_type"] == "Dictionary":
            return f"{MAPPING}, at {bound} {n}"
        return f"a list of at {bound} {n} {'entry' if n == 1 else 'entries'}"
    return IN_WORDS.get(kind) or problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def _kind_line(path: str, value: dict[str, Any], known: list[str]) -> str:
    """The line for what has a kind that does not exist, or none."""
    expected = f"one of {', '.join(known)}"
    if "kind" not in value:
        return f"{path}.kind: required key is missing; expected {expected}"
    kind = value["kind"]
    near = difflib.get_close_matches(kind, known, n=1) if isinstance(kind, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{path}.kind: found {_short(kind)}, expected {expected}{hint}"


def _kinds(annotation: Any) -> list[str]:
    """The kinds of which something may be, where an annotation stands."""
    return [
        kind
        for m in _models(annotation)
        if "kind" in m.model_fields
        for kind in get_args(m.model_fields["kind"].annotation)
    ]


def _short(value: Any) -> str:
    text = in_yaml(value)
    return text if len(text) <= 80 else text[:77] + "..."


def in_yaml(value: Any) -> str:
    """A value as a person may have written it, with texts in quotation marks."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(in_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {in_yaml(item)}' for key, item in value.items())}}}"
    return repr(value)


def _written(model: type[BaseModel], loc: tuple) -> list[str]:
    """A location as the file has it: without the names of chosen kinds and types, which pydantic puts below a union."""
    current: Any = model
    keys = []
    for part in loc:
        named = _chosen_kind(current, part) is not None or _is_type_name(current, part)
        if not named and part != "[key]":  # which pydantic puts below a key that is wrong itself
            keys.append(str(part))
        current = _descend(current, part)
    return keys


def _choice_at(model: type[BaseModel], loc: tuple) -> int | None:
    """Place in a location of the name of one of several types that a value may have; None where there is none."""
    return next((i for i, part in enumerate(loc) if _is_type_name(_at(model, loc[:i]), part)), None)


def _at(model: type[BaseModel], loc: tuple) -> Any:
    """The annotation at a location inside `model` (unions are searched by tag)."""
    current: Any = model
    for part in loc:
        current = _descend(current, part)
    return current


def _keys_of(annotation: Any) -> list[str]:
    """Field names that are allowed where an annotation stands."""
    return sorted({key for m in _models(annotation) for key in m.model_fields})


def _renamed_at(annotation: Any) -> dict[str, str]:
    """Old names of keys where an annotation stands."""
    return {old: new for m in _models(annotation) if issubclass(m, Strict) for old, new in m.RENAMED.items()}


def _descend(annotation: Any, part: Any) -> Any:
    chosen = _chosen_kind(annotation, part)
    if chosen is not None:
        return chosen
    if _is_type_name(annotation, part):
        return next((t for t in _types(annotation) if part.startswith("list[") and get_origin(t) is list), Any)
    for candidate in _models(annotation):
        if part in candidate.model_fields:
            return candidate.model_fields[part].annotation
    args = get_args(annotation)
    return args[-1] if get_origin(annotation) in (dict, list, tuple) and args else annotation


def _chosen_kind(annotation: Any, part: Any) -> type[BaseModel] | None:
    """The class of a union that `part` names, where it is the name of a kind and no key."""
    if isinstance(annotation, type):  # a class: what follows are its keys
        return None
    for model in _models(annotation):
        kind = model.model_fields.get("kind")
        if kind is not None and part in get_args(kind.annotation):
            return model
    return None


def _is_type_name(annotation: Any, part: Any) -> bool:
    """Whether a part of a location is the name of one of several types, which pydantic tries one after the other, and no key."""
    return isinstance(part, str) and len(_types(annotation)) > 1


def _types(annotation: Any) -> list[Any]:
    """The types of values of which one is tried after the other, where an annotation stands; null, and what has keys, aside."""
    if get_origin(annotation) not in (Union, UnionType):
        return []
    types = [get_args(arg)[0] if get_origin(arg) is Annotated else arg for arg in get_args(annotation)]
    return [t for t in types if t is not type(None) and not _models(t)]


def _entries(annotation: Any) -> int:
    """How many entries a list must have, where an annotation stands that says so; else 0."""
    return next((len(get_args(t)) for t in (annotation, *get_args(annotation)) if get_origin(t) is tuple), 0)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """All configuration classes mentioned in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in get_args(annotation) for m in _models(arg)]

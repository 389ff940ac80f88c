"""Strict configuration models, and validation errors that a person can act on.

Every configuration class of the project derives from `Strict`: an unknown key is an error, and a validated object
never changes. `explain` turns pydantic's error into one line per problem: the key's path, what was found, what was
expected, and for a misspelt key the nearest one that exists.
"""

import difflib
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    """A frozen configuration object that accepts no unknown key and no silent conversion of NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


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


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line per problem: key path, value found, what was expected, nearest key for a typo."""
    return "\n".join(f"  {_line(problem, model)}" for problem in error.errors())


def _line(problem: dict[str, Any], model: type[BaseModel]) -> str:
    loc = problem["loc"]
    path = ".".join(str(part) for part in loc) or "(top level)"
    found = repr(problem["input"])
    found = found if len(found) <= 80 else found[:77] + "..."
    if problem["type"] == "extra_forbidden":
        keys = _keys_at(model, loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), keys, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known keys here: {', '.join(sorted(keys))}"
        return f"{path}: unknown key (value {found}){hint}"
    if problem["type"] == "missing":
        return f"{path}: required key is missing"
    return f"{path}: found {found}, expected: {problem['msg'].removeprefix('Value error, ')}"


def _keys_at(model: type[BaseModel], loc: tuple) -> list[str]:
    """Field names that are allowed at a location inside `model` (unions are searched by tag)."""
    current: Any = model
    for part in loc:
        current = _descend(current, part)
    return sorted({key for m in _models(current) for key in m.model_fields})


def _descend(annotation: Any, part: Any) -> Any:
    for candidate in _models(annotation):
        if part in candidate.model_fields:
            return candidate.model_fields[part].annotation
        kind = candidate.model_fields.get("kind")
        if kind is not None and part in get_args(kind.annotation):
            return candidate
    args = get_args(annotation)
    return args[-1] if get_origin(annotation) in (dict, list, tuple) and args else annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    """All configuration classes mentioned in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in get_args(annotation) for m in _models(arg)]

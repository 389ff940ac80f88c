"""Nested mappings, such as configurations, leaf by leaf: as one mapping, and where two differ."""

from typing import Any


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one: {"a": {"b": 1}} -> {"a.b": 1}. Lists are leaves."""
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    return {
        key: leaf
        for name, value in values.items()
        for key, leaf in flatten(value, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def differing(found: Any, expected: Any) -> dict[str, tuple[Any, Any]]:
    """Key of every leaf that differs -> what was found and what was expected there, "nothing" where there is no such key."""
    a, b = flatten(found), flatten(expected)
    both = {key: (a.get(key, "nothing"), b.get(key, "nothing")) for key in sorted(a.keys() | b.keys())}
    return {key: (left, right) for key, (left, right) in both.items() if left != right}


def differing_keys(found: Any, expected: Any) -> list[str]:
    """One text per leaf that differs, such as "train.steps: found 200, expected 400"; empty if equal."""
    return [f"{key}: found {left}, expected {right}" for key, (left, right) in differing(found, expected).items()]

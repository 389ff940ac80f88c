"""A small valid study that tests spoil, and walks over the keys of a configuration."""

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lgmamba.config.base import ConfigError, validate
from lgmamba.config.overlays import merge, overlaid
from lgmamba.config.study import Params
from lgmamba.config.text import read_yaml

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
PRESETS = sorted(p.stem for p in (ROOT / "workflow" / "presets").glob("*.yaml"))

ADAPTIVE = {"kind": "both", "features": "T_and_t", "hidden": 8, "beyond": "clamp"}
SMALL = {
    "task": {"patch_size": 2, "lengths": {"kind": "uniform", "low": 1, "high": 16}, "supervision": {"kind": "last"}},
    "model": {"adaptive": None},
    "train": {"steps": 100, "warmup_steps": 10},
    "runs": {
        "fixed_4": {"task": {"lengths": {"kind": "fixed", "value": 4}}},
        "fixed_12": {"task": {"lengths": {"kind": "fixed", "value": 12}}},
        "plain": {"model": {"adaptive": None}},
        "told": {"model": {"adaptive": ADAPTIVE}},
    },
    "seeds": [0, 1],
    "evaluation": {"max_length_ratio": 25, "length_ratios": [1.25, 1.5, 2, 4, 8, 16], "extra_steps": [3]},
    "claims": {"comparisons": [{"generalist": "plain", "adaptive": "told"}], "far_length_ratios": [2, 5]},
    "remedy_evaluation": {"runs": ["plain", "told"]},
    "probes": {"runs": ["plain", "told"]},
}
"""Laid over preset digits, so that no test depends on the numbers chosen there."""


@cache
def small_digits() -> dict[str, Any]:
    """Read once: parsing YAML takes a hundred times as long as validating what it says. Never changed."""
    digits = overlaid(read_yaml(PARAMS), read_yaml(ROOT / "workflow/presets/digits.yaml"))
    return merge(digits, SMALL)


def values(**overrides) -> dict[str, Any]:
    return merge(small_digits(), overrides)


def study(**overrides) -> Params:
    return validate(Params, values(**overrides), "params.yaml")


def error(wrong: dict[str, Any]) -> str:
    """The message with which these values are refused."""
    with pytest.raises(ConfigError) as e:
        validate(Params, wrong, "params.yaml")
    return str(e.value)


def mappings(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of all mappings in a tree of mappings and lists, the tree itself first."""
    if isinstance(tree, dict):
        yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from mappings(value, (*path, key))


def leaves(tree: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """(path, value) of everything that is neither a mapping nor a list."""
    if not isinstance(tree, dict | list):
        yield path, tree
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from leaves(value, (*path, key))


def changed(tree: Any, path: tuple, value: Any) -> Any:
    """A copy of the tree with another value at a path."""
    tree = copy.deepcopy(tree)
    at(tree, path[:-1])[path[-1]] = value
    return tree


def at(tree: Any, path: tuple) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def dotted(path: tuple) -> str:
    return ".".join(str(part) for part in path)


def with_mixer(mixer: dict, **more) -> dict:
    """A study one of whose runs has another mixer."""
    wrong = values(remedy_evaluation={"runs": ["other"]}, probes={"runs": ["plain"]}, **more)
    wrong["runs"]["other"] = {"model": {"mixer": mixer, "adaptive": None, "d_model": 12}}
    return wrong

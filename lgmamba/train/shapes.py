"""Which runs have one shape, so that they can be trained side by side. Imports no torch. Glossary: `lgmamba.train`."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig
from lgmamba.files import to_json

T = TypeVar("T")


def shape_of(run: RunConfig) -> str:
    """Text that is equal for runs whose steps have equal shapes and one optimiser.

    They may differ in name and seed, and in what only changes the content of a batch: `DRAWN` of their task, with one L0, what a
    sequence weighs by its length, and the weight of classification.
    """
    values = run.model_dump(mode="json")
    for name in ("study", "run", "seed"):
        del values[name]
    for name in run.task.DRAWN:
        values["task"].pop(name, None)
    for name in ("length_power", "class_weight"):
        values["train"].pop(name, None)
    return to_json(values | {"L0": run.L0})


def why_alone(run: RunConfig) -> str | None:
    """Why a run is only trained alone, or None: the passed part of its batches has another length at every step, or by its mixer."""
    if run.train.state_passing is not None:
        return "state passing"
    return "kernels of flash-linear-attention" if run.model.scan_backend == "fla" else run.model.mixer.alone


def check_one_shape(runs: Sequence[RunConfig]) -> None:
    """Whether runs may be trained side by side; one always may.

    Raises:
        ConfigError: they may not; says which and why.
    """
    for run in runs[1:]:
        if reason := why_alone(run) or why_alone(runs[0]):
            raise ConfigError(f"run {run.run!r}, seed {run.seed}: trained with {reason}, which is done alone")
        if shape_of(run) != shape_of(runs[0]):
            raise ConfigError(
                f"runs {runs[0].run!r} and {run.run!r} have different shapes; expected: the same but for name, seed, lengths "
                "of one L0, train.length_power and train.class_weight"
            )


def by_shape(items: Sequence[T], run_of: Callable[[T], RunConfig]) -> list[list[T]]:
    """Groups of items whose runs may be trained side by side, in the order in which they are given."""
    groups: dict[str, list[T]] = {}
    for i, item in enumerate(items):
        run = run_of(item)
        groups.setdefault(f"alone {i}" if why_alone(run) else shape_of(run), []).append(item)
    return list(groups.values())


def in_parts(items: Sequence[T], most: int) -> list[list[T]]:
    """As few parts as hold at most `most` items each, of sizes that differ by one at most."""
    n = -(-len(items) // max(1, most))
    bounds = [len(items) * i // n for i in range(n + 1)]
    return [list(items[a:b]) for a, b in pairwise(bounds)]

"""Which trainings can run side by side as one model, and how many of them fit into memory. Glossary: `lgmamba.train`."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig
from lgmamba.data.dataset import Dataset, load_dataset
from lgmamba.files import to_json
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.attempt import computes_in_bf16
from lgmamba.train.stacked import StackedStep

T = TypeVar("T")

MEMORY_SHARE = 0.8
"""Of the free memory of a GPU that a stack may fill; the rest is for validation and for what the allocator cannot use."""


def stacks_of(items: Sequence[T], run_of: Callable[[T], RunConfig], data: Path, device: torch.device) -> list[list[T]]:
    """What to train side by side, one stack after the other, in the order in which the items are given.

    On a GPU runs of one shape, as many as fit. On a CPU every run is trained alone, which gives it the same bits whatever
    else is trained: there a step is bound by arithmetic, and side by side it is no faster (docs/training.md).

    Args:
        items: what to train.
        run_of: item -> its run.
        data: folder of the image artefact.
        device: where to train.
    """
    if device.type != "cuda":
        return [[item] for item in items]
    groups = by_shape(items, run_of)
    if len(groups) == len(items):
        return groups
    dataset, stacks = load_dataset(data, device), []
    for group in groups:
        most = 1 if len(group) == 1 else runs_that_fit(run_of(group[0]), dataset, device)
        stacks += in_parts(group, most)
    return stacks


def runs_that_fit(run: RunConfig, dataset: Dataset, device: torch.device) -> int:
    """How many runs of this shape fit side by side into the free memory of a GPU."""
    taken = bytes_of_a_run(run, dataset, device)
    torch.cuda.empty_cache()
    return max(1, int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0] / taken))


def bytes_of_a_run(run: RunConfig, dataset: Dataset, device: torch.device) -> int:
    """GPU memory that one run adds to a stack, measured: that of a step of a stack of one."""
    model, task = build_model(run, dataset.image_shape).to(device), build_task(run, dataset)
    sampler = task.sampler(dataset.split("train"), run.train, run.seed, full_length=True)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    StackedStep([model], run.train, task, computes_in_bf16(run.train, device), graph=False)([sampler.draw(0)])
    return torch.cuda.max_memory_allocated(device) - before


def shape_of(run: RunConfig) -> str:
    """Text that is equal for runs whose steps have equal shapes and one optimiser: all but seed, name and what is drawn.

    What may differ: the lengths within one L0, and what a sequence weighs by its length.
    """
    values = run.model_dump(mode="json")
    for name in ("study", "run", "seed"):
        del values[name]
    values["task"]["lengths"] = run.L0
    values["train"].pop("length_power", None)
    return to_json(values)


def one_by_one(run: RunConfig) -> bool:
    """Whether a run is only trained alone: the passed part of its batches has another length at every step."""
    return run.train.state_passing is not None


def check_one_shape(runs: Sequence[RunConfig]) -> None:
    """Whether runs may be trained side by side; one always may.

    Raises:
        ConfigError: they may not; says which and why.
    """
    for run in runs[1:]:
        if one_by_one(run) or one_by_one(runs[0]):
            raise ConfigError(f"run {run.run!r}, seed {run.seed}: trained with state passing, which is done alone")
        if shape_of(run) != shape_of(runs[0]):
            raise ConfigError(
                f"runs {runs[0].run!r} and {run.run!r} have different shapes; expected: the same but for name, seed, lengths "
                "of one L0 and train.length_power"
            )


def by_shape(items: Sequence[T], run_of: Callable[[T], RunConfig]) -> list[list[T]]:
    """Groups of items whose runs may be trained side by side, in the order in which they are given."""
    groups: dict[str, list[T]] = {}
    for i, item in enumerate(items):
        run = run_of(item)
        groups.setdefault(f"alone {i}" if one_by_one(run) else shape_of(run), []).append(item)
    return list(groups.values())


def in_parts(items: Sequence[T], most: int) -> list[list[T]]:
    """As few parts as hold at most `most` items each, of sizes that differ by one at most."""
    n = -(-len(items) // max(1, most))
    bounds = [len(items) * i // n for i in range(n + 1)]
    return [list(items[a:b]) for a, b in pairwise(bounds)]

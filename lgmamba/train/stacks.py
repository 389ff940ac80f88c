"""Which trainings to run side by side on a device: those of one shape, as many as fit into memory. Glossary: `lgmamba.train`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from lgmamba.config.run import RunConfig
from lgmamba.data.dataset import Dataset, load_dataset
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.attempt import computes_in_bf16
from lgmamba.train.shapes import by_shape, in_parts
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

"""Trainings from the first step to the last, one alone or several of one shape side by side. Glossary: `lgmamba.train`."""

import time
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig
from lgmamba.data.dataset import load_dataset
from lgmamba.track import Tracker
from lgmamba.train.attempt import Attempt, Training, TrainingError
from lgmamba.train.optimizer import Moments, build_optimizer, learning_rate
from lgmamba.train.processes import ALONE, Processes
from lgmamba.train.progress import Show, training_progress
from lgmamba.train.shapes import check_one_shape
from lgmamba.train.stacked import StackedStep
from lgmamba.train.step import TrainStep


def train(
    run: RunConfig,
    data: Path,
    out: Path,
    work: Path,
    device: torch.device,
    tracker: Tracker,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Train one run, resuming an interrupted attempt, and write run.json, history.parquet, model.safetensors,
    train.json, and last the record of them all.

    On a CPU the result depends on `run`, the images and the code alone: a training that was killed at any moment and
    called again ends with the same bits.

    Args:
        run: what is trained.
        data: folder of the image artefact.
        out: folder of the results.
        work: folder of the resume checkpoint; emptied of it at the end.
        device: where to train.
        tracker: told about every logged step.
        processes: that train the run together, each calling this.
    Returns:
        what train.json holds; empty in all processes but the first.
    Raises:
        TrainingError: the loss or the gradient is NaN or infinite.
        ConfigError: the images do not fit the configuration.
        DataError: the images cannot be used.
    """
    (done,) = train_stack([Training(run, out, work, tracker)], data, device, processes=processes)
    if isinstance(done, TrainingError):
        raise done
    return done


def train_stack(
    trainings: Sequence[Training],
    data: Path,
    device: torch.device,
    keep: bool = False,
    processes: Processes = ALONE,
) -> list[dict[str, Any] | TrainingError]:
    """Train runs of one shape side by side as one model; each gets what `train` gives it alone, to rounding.

    Each has its own batches, history, checkpoint and files, and may be resumed alone or in another stack. One whose loss
    becomes NaN ends there; the others go on. One training alone is exactly `train`.

    Args:
        trainings: which `lgmamba.train.stacks` put together.
        data: folder of the image artefact.
        device: where to train.
        keep: whether the work folders keep a checkpoint after the last step, from which a later call writes the results
            again without training, should somebody take them away.
        processes: that train one run together; several runs are trained by one.
    Returns:
        what each train.json holds, or why there is none.
    Raises:
        ConfigError: the images do not fit the configuration, the runs have different shapes, or batches cannot be split.
        DataError: the images cannot be used.
    """
    check_one_shape([training.run for training in trainings])
    processes.check(trainings[0].run)
    config = trainings[0].run.train
    torch.set_num_threads(config.cpu_threads)
    dataset = load_dataset(data, device, trainings[0].run.images)
    if not len(dataset.split("val")):
        raise ConfigError(f"{data}: found no image in split val, expected some to watch training (data.splits.val > 0)")
    try:
        attempts = [Attempt(training, dataset, device, len(trainings), processes) for training in trainings]
    except ConfigError as e:
        raise ConfigError(f"{data}: {e}") from None
    for attempt in attempts:
        attempt.begin()
    failed: dict[int, TrainingError] = {}
    label = attempts[0].label if len(attempts) == 1 else f"{len(attempts)} runs side by side"
    starts = sorted({attempt.step for attempt in attempts})
    with training_progress(label, starts[0], config.steps, attempts[0].validation.metric) as show:
        # Those that a kill left behind catch up first: a stack is at one step.
        for start, stop in pairwise([*starts, config.steps]):
            if start == stop:  # some have done their last step
                continue
            ready = [i for i, attempt in enumerate(attempts) if attempt.step <= start and i not in failed]
            found = advance([attempts[i] for i in ready], stop, show) if ready else {}
            failed |= {ready[i]: error for i, error in found.items()}
    return [failed[i] if i in failed else attempt.finish(keep) for i, attempt in enumerate(attempts)]


def advance(attempts: Sequence[Attempt], stop: int, show: Show) -> dict[int, TrainingError]:
    """Train from the step at which all attempts are to step `stop`.

    Returns:
        position -> error of those that could not go on.
    """
    config, device = attempts[0].run.train, attempts[0].device
    start = attempts[0].step
    step = build_step(attempts)
    if start:
        step.load_moments([attempt.moments for attempt in attempts if attempt.moments is not None])
    seen = torch.zeros(config.log_every, 2, len(attempts), device=device)  # loss and gradient norm since the last row
    failed: dict[int, TrainingError] = {}
    checkpointed = logged = time.monotonic()
    for now in range(start, stop):
        lr = learning_rate(now, config)
        step.set_learning_rate(lr)
        batches = [attempt.sampler.draw(now) for attempt in attempts]
        results = step(batches[0]) if isinstance(step, TrainStep) else step(batches)
        seen[now % config.log_every] = torch.stack(results).reshape(2, -1)
        done = now + 1
        if done % config.log_every and done < stop:
            continue

        recent = seen[: now % config.log_every + 1]
        images_per_s = len(recent) * config.batch_size / (time.monotonic() - logged)
        for i, attempt in enumerate(attempts):
            if i in failed:  # it stays where it is in the stack, where it disturbs nobody
                continue
            try:
                attempt.add_row(done, recent[..., i], lr, images_per_s, show)
            except TrainingError as error:
                failed[i] = error
        if len(failed) == len(attempts):
            return failed
        logged = time.monotonic()  # validation and what follows are not training time
        if done < config.steps and logged - checkpointed >= config.checkpoint_every_s:
            save(attempts, failed, step.moments())
            checkpointed = logged = time.monotonic()
    for attempt, moments in zip(attempts, step.moments(), strict=True):
        attempt.moments = moments
    return failed


def save(attempts: Sequence[Attempt], failed: Collection[int], moments: Sequence[Moments]) -> None:
    """Checkpoints of those that have not failed."""
    for i, (attempt, kept) in enumerate(zip(attempts, moments, strict=True)):
        if i not in failed:
            attempt.save(kept)


def build_step(attempts: Sequence[Attempt]) -> TrainStep | StackedStep:
    """What runs the steps of these attempts; on CUDA it is recorded as a graph."""
    first, config = attempts[0], attempts[0].run.train
    graph = first.device.type == "cuda" and first.processes.count == 1  # what processes tell each other is not recorded
    if len(attempts) == 1:
        optimizer = build_optimizer(first.model, config)
        return TrainStep(first.model, optimizer, first.task, config.grad_clip, first.bf16, graph, first.processes)
    return StackedStep([attempt.model for attempt in attempts], config, first.task, first.bf16, graph)

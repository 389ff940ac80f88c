"""`lgmamba train` and `lgmamba train-stack`: one training, or several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lgmamba import track
from lgmamba.cli.options import Device, say_current
from lgmamba.making import making

if TYPE_CHECKING:
    from lgmamba.config.run import RunConfig
    from lgmamba.records import Key
    from lgmamba.train.loop import Training, TrainingError
    from lgmamba.train.processes import Processes

Data = Annotated[Path, typer.Option(help="folder of the image artefact")]
Store = Annotated[Path | None, typer.Option("--track", help="folder of the MLflow store; none by default")]


def train(
    run: Annotated[Path, typer.Option(help="run.json of one run and seed")],
    data: Data,
    out: Annotated[Path, typer.Option(help="folder of the results")],
    work: Annotated[Path, typer.Option(help="folder of the resume checkpoint; survives a kill")],
    track_store: Store = None,
    device: Device = "auto",
) -> None:
    """Train one run with one seed, going on where an interrupted attempt stopped.

    By several processes, each with a part of every batch: torchrun --nproc-per-node 2 -m -- lgmamba train ...
    """
    from lgmamba import devices
    from lgmamba.config.files import read_config
    from lgmamba.config.run import RunConfig
    from lgmamba.train.processes import joined

    config = read_config(run, RunConfig)
    with joined(partial(devices.claim, device)) as processes:
        alone_at_work = making(out, partial(_key, config, data, out)) if processes.first else nullcontext(False)
        with alone_at_work as wanted:
            if not processes.agreed(wanted):
                if processes.first:
                    say_current(out)
                return
            if processes.count == 1:
                devices.claim(device)
            training = _training(config, data, out, work, track_store if processes.first else None)
            for failure in _train([training], data, device, processes=processes):
                raise failure


def train_stack(
    folders: Annotated[list[Path], typer.Argument(help="<results>/runs/<run>/seed<k>, each with its run.json")],
    data: Data,
    track_store: Store = None,
    device: Device = "auto",
) -> None:
    """Train several runs into their own folders (train/ and work/); on a GPU those of one shape side by side as one model."""
    from lgmamba import devices
    from lgmamba.config.files import read_config
    from lgmamba.config.run import RunConfig

    runs = {folder: read_config(folder / "run.json", RunConfig) for folder in folders}
    # Held in one order everywhere, each once: of two such calls none waits for the other while that one waits for it.
    places = {folder.resolve(): folder for folder in folders}
    with ExitStack() as held:
        needed = []
        for _, folder in sorted(places.items()):
            out = folder / "train"
            if held.enter_context(making(out, partial(_key, runs[folder], data, out))):
                needed.append(folder)
            else:
                say_current(out)
        if not needed:
            return
        devices.claim(device)
        from lgmamba.train.checkpoint import remove_progress
        from lgmamba.train.loop import TrainingError
        from lgmamba.train.stacks import stacks_of

        failures: list[TrainingError] = []
        asked = [folder for folder in runs if folder in needed]
        for stack in stacks_of(asked, runs.__getitem__, data, devices.torch_device(device)):
            trainings = [_training(runs[f], data, f / "train", f / "work", track_store) for f in stack]
            failures += _train(trainings, data, device, keep=True)
        if (
            failures
        ):  # a workflow takes away what a failed call made: the next one writes it again, from the work folders
            raise TrainingError("\n".join(map(str, failures)))
        for folder in needed:
            remove_progress(folder / "work")


def _key(run: RunConfig, data: Path, out: Path) -> Key:
    from lgmamba.config.run import weights_path
    from lgmamba.data.artefact import read_manifest
    from lgmamba.keys import train_key

    return train_key(run, read_manifest(data).sha256, weights_path(run, out))


def _training(run: RunConfig, data: Path, out: Path, work: Path, store: Path | None) -> Training:
    """A training with its tracker, which finds it in the store by what it is made from."""
    from lgmamba import provenance
    from lgmamba.train.loop import Training

    key, commit = _key(run, data, out), str(provenance.git_state()["commit"])
    tags = {"key_digest": key.digest, "data_digest": key.inputs["images"], "code_digest": key.code, "commit": commit}
    return Training(run, out, work, track.open_tracker(store, run, tags))


def _train(
    trainings: Sequence[Training], data: Path, device: str, keep: bool = False, processes: Processes | None = None
) -> list[TrainingError]:
    """Train side by side and tell of each that ends; returns why the others did not."""
    from lgmamba import devices
    from lgmamba.train.loop import TrainingError
    from lgmamba.train.loop import train_stack as train_runs
    from lgmamba.train.processes import ALONE

    try:
        results = train_runs(trainings, data, devices.torch_device(device), keep, processes or ALONE)
    except (KeyboardInterrupt, SystemExit):  # the store should not show them as running for ever
        for training in trainings:
            training.tracker.stop()
        raise
    except Exception as e:
        for training in trainings:
            training.tracker.fail(f"{type(e).__name__}: {e}")
        raise
    failures = []
    for training, done in zip(trainings, results, strict=True):
        if isinstance(done, TrainingError):
            training.tracker.fail(f"TrainingError: {done}")
            failures.append(done)
        elif done:  # not in processes that follow
            speed = f"{done['steps']} steps in {done['wall_s']:.1f} s on {done['device_name']}"
            typer.echo(f"{training.out}: {speed}, loss {done['final']['loss']:.5f}")
    return failures

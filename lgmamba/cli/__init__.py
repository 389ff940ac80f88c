"""The command line: one command per stage of the workflow, each of which can be typed by hand.

Commands import what they need when they run: `lgmamba --help` must not wait for torch, and training must run on a
machine that has neither polars nor MLflow.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lgmamba import track
from lgmamba.analysis import FIGURE_CONDITIONS
from lgmamba.cli.new import new
from lgmamba.cli.options import Device, Workers, log_level, told_of_system
from lgmamba.cli.show import show
from lgmamba.track.commands import app as track_app

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Why Mamba models fail beyond their training lengths, made visible by reconstructing images step by step. "
    "Each stage of the workflow is one command; their configuration files are written by `lgmamba show --write` or by "
    "any call of snakemake.",
)
app.command("new")(new)
app.command("show")(show)
app.add_typer(track_app, name="track")


@app.command()
def data(
    config: Annotated[Path, typer.Option(help="<results>/config/data.json")],
    out: Annotated[Path, typer.Option(help="folder of the image artefact")],
    workers: Workers = None,
) -> None:
    """Decode images into one array, with fixed splits."""
    from lgmamba.config.files import DataFile, read_config
    from lgmamba.data.build import build_dataset

    read = read_config(config, DataFile)
    manifest = build_dataset(read.data, read.patch_sizes, out, workers)
    counts = ", ".join(f"{name} {n}" for name, n in manifest.counts.items())
    typer.echo(f"{out}: images of shape {manifest.image_shape}; {counts}")


@app.command()
def train(
    run: Annotated[Path, typer.Option(help="run.json of one run and seed")],
    data: Annotated[Path, typer.Option(help="folder of the image artefact")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    work: Annotated[Path, typer.Option(help="folder of the resume checkpoint; survives a kill")],
    track_store: Annotated[
        Path | None, typer.Option("--track", help="folder of the MLflow store; none by default")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train one run with one seed, going on where an interrupted attempt stopped."""
    from lgmamba.config.files import read_config
    from lgmamba.config.run import RunConfig

    config = read_config(run, RunConfig)
    from lgmamba import devices

    devices.claim(device)
    from lgmamba.train.loop import train as train_run

    tags = _training_tags(data)
    tracker = track.open_tracker(track_store, config, work, tags)
    try:
        done = train_run(config, data, out, work, devices.torch_device(device), tracker)
    except BaseException as e:  # a kill by Ctrl-C too: the store should not show it as running for ever
        tracker.fail(f"{type(e).__name__}: {e}")
        raise
    typer.echo(_trained(out, done))


@app.command("train-stack")
def train_stack(
    folders: Annotated[list[Path], typer.Argument(help="<results>/runs/<run>/seed<k>, each with its run.json")],
    data: Annotated[Path, typer.Option(help="folder of the image artefact")],
    track_store: Annotated[
        Path | None, typer.Option("--track", help="folder of the MLflow store; none by default")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train several runs into their own folders (train/ and work/); on a GPU those of one shape side by side as one model."""
    from lgmamba.config.files import read_config
    from lgmamba.config.run import RunConfig

    runs = {folder: read_config(folder / "run.json", RunConfig) for folder in folders}
    from lgmamba import devices

    devices.claim(device)
    from lgmamba.train.checkpoint import remove_progress
    from lgmamba.train.loop import Training, TrainingError
    from lgmamba.train.loop import train_stack as train_runs
    from lgmamba.train.stacks import stacks_of

    tags, where, failures = _training_tags(data), devices.torch_device(device), []
    for stack in stacks_of(list(runs), runs.__getitem__, data, where):
        trainings = [
            Training(
                runs[folder],
                folder / "train",
                folder / "work",
                track.open_tracker(track_store, runs[folder], folder / "work", tags),
            )
            for folder in stack
        ]
        try:
            results = train_runs(trainings, data, where, keep=True)
        except BaseException as e:  # a kill by Ctrl-C too: the store should not show them as running for ever
            for training in trainings:
                training.tracker.fail(f"{type(e).__name__}: {e}")
            raise
        for training, done in zip(trainings, results, strict=True):
            if isinstance(done, TrainingError):
                training.tracker.fail(f"TrainingError: {done}")
                failures.append(str(done))
            else:
                typer.echo(_trained(training.out, done))
    if (
        failures
    ):  # a workflow takes away the results of a call that fails: the next one writes them again, from the work folders
        raise TrainingError("\n".join(failures))
    for folder in runs:
        remove_progress(folder / "work")


@app.command()
def reconstruct(
    probe: Annotated[Path, typer.Option(help="probe.json of one run and seed")],
    train: Annotated[Path, typer.Option(help="folder written by `train`")],
    data: Annotated[Path, typer.Option(help="folder of the image artefact")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    device: Device = "auto",
) -> None:
    """Reconstruct held-out images at every step of sequences far longer than those of training."""
    from lgmamba import devices
    from lgmamba.config.files import ProbeFile, read_config

    config = read_config(probe, ProbeFile)
    devices.claim(device)
    from lgmamba.probe.reconstruct import reconstruct as probe_run

    done = probe_run(config, train, data, out, devices.torch_device(device))
    typer.echo(f"{out}: {done['images']} images, up to {done['steps'][-1]} patches, in {done['wall_s']:.1f} s")


@app.command()
def remedy(
    config: Annotated[Path, typer.Option(help="remedy.json of one run and seed")],
    train: Annotated[Path, typer.Option(help="folder written by `train`")],
    data: Annotated[Path, typer.Option(help="folder of the image artefact")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    work: Annotated[Path | None, typer.Option(help="folder where calibrated values survive a kill")] = None,
    artefacts: Annotated[
        Path | None, typer.Option(help="folder of calibrated values to use instead of calibrating; of this checkpoint")
    ] = None,
    track_store: Annotated[
        Path | None, typer.Option("--track", help="folder of the MLflow store; none by default")
    ] = None,
    device: Device = "auto",
) -> None:
    """Try every remedy for sequences beyond the training length on one trained run, beside the controls."""
    from lgmamba import devices
    from lgmamba.config.files import RemedyFile, read_config

    read = read_config(config, RemedyFile)
    devices.claim(device)
    from lgmamba.probe.remedy import try_remedies

    done = try_remedies(read, train, data, out, work, artefacts, devices.torch_device(device))
    from lgmamba.track.remedies import track_remedies

    track_remedies(track_store, read.run, out)
    typer.echo(
        f"{out}: {len(done['remedies'])} rows on {done['images']} images, up to {done['steps'][-1]} patches, in {done['wall_s']:.1f} s"
    )


@app.command()
def inspect(
    config: Annotated[Path, typer.Option(help="inspect.json of one run and seed")],
    train: Annotated[Path, typer.Option(help="folder written by `train`")],
    data: Annotated[Path, typer.Option(help="folder of the image artefact")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    what: Annotated[
        str, typer.Option(help="attention, distance, receptive_field, memory, states, content, modes, or all")
    ] = "all",
    device: Device = "auto",
) -> None:
    """Look into one trained run: what its layers attend to, what their states hold, and which modes break it beyond L0."""
    from lgmamba import devices
    from lgmamba.config.files import InspectFile, read_config

    read = read_config(config, InspectFile)
    devices.claim(device)
    from lgmamba.probe.inspect import inspect as inspect_run

    done = inspect_run(read, train, data, out, devices.torch_device(device), what)
    looks = ", ".join(done["seconds"])
    typer.echo(f"{out}: {looks}; {done['images']} images, up to {done['steps'][-1]} patches, in {done['wall_s']:.1f} s")


@app.command()
def evaluate(
    study: Annotated[Path, typer.Option(help="<results>/config/study.json")],
    results: Annotated[Path, typer.Option(help="folder of the study's results, with runs/")],
    out: Annotated[Path, typer.Option(help="folder of the frames")],
) -> None:
    """Gather every run into frames, and test the claims."""
    from lgmamba.analysis.evaluate import evaluate as evaluate_study

    evaluate_study(study, results, out)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help=f"one of the study's: {', '.join(FIGURE_CONDITIONS)}")],
    study: Annotated[Path, typer.Option(help="<results>/config/study.json")],
    frames: Annotated[Path, typer.Option(help="folder written by `evaluate`")],
    out: Annotated[Path, typer.Option(help="folder of the figures")],
) -> None:
    """Draw one figure as PNG and PDF, with the numbers behind it as CSV."""
    from lgmamba.figures import draw

    draw(name, study, frames, out)


@app.command()
def report(
    study: Annotated[Path, typer.Option(help="<results>/config/study.json")],
    frames: Annotated[Path, typer.Option(help="folder written by `evaluate`")],
    figures: Annotated[Path, typer.Option(help="folder of the figures")],
    out: Annotated[Path, typer.Option(help="folder of the report")],
    readme: Annotated[Path | None, typer.Option(help="file whose generated headline is brought up to date")] = None,
) -> None:
    """Write report.md and report.html."""
    from lgmamba.report import update_readme, write_report

    write_report(study, frames, figures, out)
    if readme is not None:
        update_readme(readme, out / "headline.json")


def _training_tags(data: Path) -> dict[str, str]:
    """By which a training is found in the tracking store."""
    from lgmamba import provenance
    from lgmamba.data.artefact import read_manifest

    return {
        "data_digest": read_manifest(data).sha256,
        "code_digest": provenance.code_digest("lgmamba.train.loop"),
        "commit": str(provenance.git_state()["commit"]),
    }


def _trained(out: Path, done: dict[str, Any]) -> str:
    """What is told of a finished training."""
    speed = f"{done['steps']} steps in {done['wall_s']:.1f} s on {done['device_name']}"
    return f"{out}: {speed}, loss {done['final']['loss']:.5f}"


def main() -> None:
    """Run the command line; what a person can put right is printed as one message, without a traceback."""
    logging.basicConfig(
        format="%(message)s", stream=sys.stderr
    )  # warnings of all packages, and what this one has to say
    try:
        logging.getLogger("lgmamba").setLevel(log_level())
        app()
    except OSError as e:
        if (told := told_of_system(e)) is None:
            raise
        _end(told)
    except Exception as e:
        if type(e).__name__ not in FOR_PEOPLE:
            raise
        _end(e)


def _end(message: object) -> None:
    typer.echo(f"error: {message}", err=True)
    sys.exit(1)


FOR_PEOPLE = {"ConfigError", "DataError", "BadImage", "CollectError", "TrainingError"}
"""Errors whose message says what to do; by name, because importing them all would import everything."""

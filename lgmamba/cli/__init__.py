"""The command line: one command per stage of the workflow, each of which can be typed by hand.

Commands import what they need when they run: `lgmamba --help` must not wait for torch, and training must run on a
machine that has neither polars nor MLflow.
"""

import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lgmamba.analysis import FIGURE_CONDITIONS, figures_of, frames_drawn, kept_frames
from lgmamba.cli.audit import audit
from lgmamba.cli.matrix import matrix
from lgmamba.cli.new import new
from lgmamba.cli.options import Device, Workers, log_level, say_current, say_size, told_of_system, told_of_tensors
from lgmamba.cli.pack import pack
from lgmamba.cli.show import show
from lgmamba.cli.tradeoff import app as tradeoff_app
from lgmamba.cli.training import train, train_stack
from lgmamba.extras import told_of_import
from lgmamba.making import making
from lgmamba.track.commands import app as track_app

if TYPE_CHECKING:
    from lgmamba.config.files import EvaluationFile, ProbesFile, RemedyFile
    from lgmamba.records import Key

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Why Mamba models fail beyond their training lengths, made visible by reconstructing images step by step. "
    "Each stage of the workflow is one command; their configuration files are written by `lgmamba show --write` or by "
    "any call of snakemake that runs something. A result that is current is left as it is.",
)
app.command("new")(new)
app.command("show")(show)
app.command("audit")(audit)
app.command("pack")(pack)
app.command("matrix")(matrix)
app.add_typer(track_app, name="track")
app.add_typer(tradeoff_app, name="tradeoff")


@app.command()
def data(
    config: Annotated[Path, typer.Option(help="<results>/config/data.json")],
    out: Annotated[Path, typer.Option(help="folder of the image artefact")],
    workers: Workers = None,
) -> None:
    """Decode images into one array, with fixed splits."""
    from lgmamba.config.files import DataFile, read_config
    from lgmamba.data.listing import images_digest, seen_digest, source_files
    from lgmamba.keys import data_key
    from lgmamba.records import find_record, finish

    read = read_config(config, DataFile)
    with making(out, lambda: data_key(read.data, images_digest(read.data, find_record(out)))) as needed:
        if not needed:
            return say_current(out)
        from lgmamba.data.build import build_dataset

        seen = seen_digest(source_files(read.data))  # before they are read: what changes meanwhile is noticed next time
        key = data_key(read.data, images_digest(read.data, None))
        manifest = build_dataset(read.data, read.patch_sizes, out, workers)
        finish(key, out, ["manifest.json", manifest.file], seen=seen)
    counts = ", ".join(f"{name} {n}" for name, n in manifest.counts.items())
    typer.echo(f"{out}: images of shape {manifest.image_shape}; {counts}")


app.command("train")(train)
app.command("train-stack")(train_stack)


@app.command()
def reconstruct(
    config: Annotated[Path, typer.Option(help="evaluation.json of one run and seed")],
    train: Annotated[Path, typer.Option(help="folder written by `train`")],
    data: Annotated[Path, typer.Option(help="folder of the image artefact")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    device: Device = "auto",
) -> None:
    """Reconstruct held-out images at every step of sequences far longer than those of training."""
    from lgmamba import devices
    from lgmamba.config.files import EvaluationFile, read_config

    read = read_config(config, EvaluationFile)
    with making(out, lambda: _reading_key(read, data, train)) as needed:
        if not needed:
            return say_current(out)
        devices.claim(device)
        from lgmamba.probe.reconstruct import reconstruct as evaluate_run

        done = evaluate_run(read, train, data, out, devices.torch_device(device))
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
    with making(out, lambda: _reading_key(read, data, train)) as needed:
        if not needed:
            return say_current(out)
        devices.claim(device)
        from lgmamba.probe.remedy import try_remedies

        done = try_remedies(read, train, data, out, work, artefacts, devices.torch_device(device))
    from lgmamba.track.remedies import track_remedies

    track_remedies(track_store, read.run, out)
    typer.echo(
        f"{out}: {len(done['remedies'])} rows on {done['images']} images, up to {done['steps'][-1]} patches, in {done['wall_s']:.1f} s"
    )


@app.command()
def probes(
    config: Annotated[Path, typer.Option(help="probes.json of one run and seed")],
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
    from lgmamba.config.files import ProbesFile, read_config

    read = read_config(config, ProbesFile)
    with making(out, lambda: _reading_key(read, data, train)) as needed:
        if not needed and what == "all":
            return say_current(out)
        devices.claim(device)
        from lgmamba.probe.probes import run_probes

        done = run_probes(read, train, data, out, devices.torch_device(device), what)
    kinds = ", ".join(done["seconds"])
    typer.echo(f"{out}: {kinds}; {done['images']} images, up to {done['steps'][-1]} patches, in {done['wall_s']:.1f} s")


@app.command()
def evaluate(
    study: Annotated[Path, typer.Option(help="<results>/config/study.json")],
    results: Annotated[Path, typer.Option(help="folder of the study's results, with runs/")],
    out: Annotated[Path, typer.Option(help="folder of the frames")],
) -> None:
    """Gather every run into frames, and test the contrasts."""
    from lgmamba.config.files import read_config
    from lgmamba.config.study import Params
    from lgmamba.jobs import records_below
    from lgmamba.keys import evaluate_key

    params = read_config(study, Params)
    with making(out, lambda: evaluate_key(params, records_below(results, params))) as needed:
        if not needed:
            return say_current(out)
        from lgmamba.analysis.evaluate import evaluate as evaluate_study

        evaluate_study(study, results, out)


@app.command()
def keep(
    study: Annotated[Path, typer.Option(help="<results>/config/study.json")],
    frames: Annotated[Path, typer.Option(help="folder written by `evaluate`")],
    out: Annotated[Path, typer.Option(help="<reports>/frames")],
) -> None:
    """Copy what figures and report read, and what computing again takes, beside the report, to be kept in git."""
    from lgmamba.analysis import FOR_READERS, kept_frames
    from lgmamba.analysis.collect import load_study
    from lgmamba.analysis.kept import keep as keep_frames

    params = load_study(study)
    keep_frames(params, (*kept_frames(params), *FOR_READERS), "evaluate", frames, out)
    say_size(out)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help=f"one of the study's: {', '.join(FIGURE_CONDITIONS)}")],
    study: Annotated[Path, typer.Option(help="<results>/config/study.json")],
    frames: Annotated[Path, typer.Option(help="folder written by `evaluate`")],
    out: Annotated[Path, typer.Option(help="folder of the figures")],
) -> None:
    """Draw one figure as PNG and PDF, with the numbers behind it as CSV."""
    from lgmamba.config.files import read_config
    from lgmamba.config.study import Params
    from lgmamba.keys import figure_key
    from lgmamba.records import find_record

    params = read_config(study, Params)
    with making(out, lambda: figure_key(params, find_record(frames), frames_drawn(name)), name, alone=False) as needed:
        if not needed:
            return say_current(out / name)
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
    """Write report.md, report.html, their pages of details, and explorer.html."""
    from lgmamba.config.files import read_config
    from lgmamba.config.study import Params
    from lgmamba.keys import report_key
    from lgmamba.records import find_record

    params = read_config(study, Params)

    def key() -> "Key":
        figure_records = {name: find_record(figures, name) for name in figures_of(params)}
        return report_key(params, find_record(frames), kept_frames(params), figure_records)

    with making(out, key, alone=False) as needed:
        if needed:
            from lgmamba.report import write_report

            write_report(study, frames, figures, out)
        else:
            say_current(out)
    if readme is not None:
        from lgmamba.report import update_readme

        update_readme(readme, out / "headline.json")


def _reading_key(file: "EvaluationFile | RemedyFile | ProbesFile", data: Path, train: Path) -> "Key":
    from lgmamba.data.artefact import read_manifest
    from lgmamba.keys import reading_key
    from lgmamba.records import read_record

    images, trained = read_manifest(data).sha256, read_record(train, "train")
    return reading_key(file, images, trained.files.get("model.safetensors", ""))


def main() -> None:
    """Run the command line; what a person can put right is printed as one message, without a traceback."""
    logging.basicConfig(
        format="%(message)s", stream=sys.stderr
    )  # warnings of all packages, and what this one has to say
    # As Ctrl-C does: `finally` and trackers act.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        logging.getLogger("lgmamba").setLevel(log_level())
        app()
    except OSError as e:
        if (told := told_of_system(e)) is None:
            raise
        _end(told)
    except ModuleNotFoundError as e:
        if (told := told_of_import(e)) is None:
            raise
        _end(told)
    except Exception as e:
        if (told := told_of_tensors(e)) is None and type(e).__name__ not in FOR_PEOPLE:
            raise
        _end(told or e)


def _end(message: object) -> None:
    typer.echo(f"error: {message}", err=True)
    sys.exit(1)


FOR_PEOPLE = {
    "ArtefactError",
    "BackendError",
    "ConfigError",
    "DataError",
    "BadImage",
    "CollectError",
    "TrainingError",
    "HostError",
}
"""Errors whose message says what to do; by name, because importing them all would import everything."""

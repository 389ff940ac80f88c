"""`lgmamba tradeoff`: the stages of a study of classification against reconstruction, one command each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lgmamba.cli.options import Device, say_current, say_size
from lgmamba.making import making

if TYPE_CHECKING:
    from lgmamba.tradeoff.config import TradeoffParams

app = typer.Typer(
    no_args_is_help=True,
    help="Classification against reconstruction on one shared latent; docs/tradeoff.md.",
)

Study = Annotated[Path, typer.Option(help="<results>/frozen/study-....json")]
Frames = Annotated[Path, typer.Option(help="folder written by `tradeoff evaluate`")]
Preset = Annotated[str, typer.Option(help="a name in workflow/tradeoff, or a YAML file")]
Override = Annotated[str | None, typer.Option(help="further values as YAML, such as '{seeds: [0]}'")]


def _loaded(preset: str, override: str | None) -> "TradeoffParams":
    from lgmamba.config.text import parse_mapping
    from lgmamba.tradeoff.config import load_tradeoff

    return load_tradeoff(preset, None if override is None else parse_mapping(override, "--override"))


def _check_images(params: "TradeoffParams") -> None:
    """Look at the classes of images that are not built yet.

    Raises:
        ConfigError, DataError: they cannot be told apart, or cannot be read.
    """
    from lgmamba.data.artefact import MANIFEST
    from lgmamba.data.labels import check_labels

    if not (params.outputs.data / MANIFEST).is_file():
        check_labels(params.data)


@app.command()
def show(
    preset: Preset = "tradeoff",
    override: Override = None,
    write: Annotated[bool, typer.Option(help="also write the stages' configuration files")] = False,
) -> None:
    """Print the command of every job, in an order that works."""
    from lgmamba.config.base import ConfigError
    from lgmamba.data.errors import DataError
    from lgmamba.tradeoff.jobs import jobs_of, write_files

    params = _loaded(preset, override)
    if write:
        write_files(params)
    try:
        _check_images(params)
    except (ConfigError, DataError) as e:  # they may lie on the machine that the commands are for
        typer.echo(f"note: {e}", err=True)
    for job in jobs_of(params).values():
        typer.echo(job.line)


@app.command()
def run(
    preset: Preset = "tradeoff",
    override: Override = None,
    device: Device = "auto",
) -> None:
    """Images and every stack, one after the other: all that a machine with a GPU and without Snakemake is needed for.

    What is current is not made again. Frames, figures and report are made elsewhere.
    """
    from lgmamba.cli import data as make_images
    from lgmamba.tradeoff.jobs import data_file, frozen_path, stack_dir, write_files

    params = _loaded(preset, override)
    _check_images(params)
    write_files(params)
    make_images(frozen_path(params, data_file(params)), params.outputs.data)
    for stack in params.stacks().values():
        train(frozen_path(params, stack), params.outputs.data, stack_dir(params.outputs.results, stack.name), device)


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="<results>/frozen/stack-....json")],
    data: Annotated[Path, typer.Option(help="folder of the image artefact")],
    out: Annotated[Path, typer.Option(help="folder of the results")],
    device: Device = "auto",
) -> None:
    """Train one stack, all seeds and weights side by side, and probe it."""
    from lgmamba import devices
    from lgmamba.config.files import read_config
    from lgmamba.data.artefact import read_manifest
    from lgmamba.tradeoff.keys import stack_key
    from lgmamba.tradeoff.stack_file import StackFile

    file = read_config(config, StackFile)
    with making(out, lambda: stack_key(file, read_manifest(data).sha256)) as needed:
        if not needed:
            return say_current(out)
        devices.claim(device)
        from lgmamba.tradeoff.stage import train_stack

        done = train_stack(file, data, out, devices.torch_device(device))
    runs = len(file.seeds) * len(file.weights)
    typer.echo(f"{out}: {runs} runs of {file.train.steps} steps in {done['wall_s']:.1f} s")


@app.command()
def evaluate(
    study: Study,
    results: Annotated[Path, typer.Option(help="folder of the study's results, with stacks/")],
    out: Annotated[Path, typer.Option(help="folder of the frames")],
) -> None:
    """Gather every stack into frames: frontier, intervals over seeds, contrasts."""
    from lgmamba.config.files import read_config
    from lgmamba.tradeoff.config import TradeoffParams
    from lgmamba.tradeoff.jobs import records_of
    from lgmamba.tradeoff.keys import frames_key

    params = read_config(study, TradeoffParams)
    with making(out, lambda: frames_key(params, records_of(params))) as needed:
        if not needed:
            return say_current(out)
        from lgmamba.tradeoff.frames import evaluate as evaluate_study

        evaluate_study(params, results, out)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="frontier, exchange, pictures, controls or gradients")],
    study: Study,
    frames: Frames,
    out: Annotated[Path, typer.Option(help="folder of the figures")],
) -> None:
    """Draw one figure as PNG and PDF, with the numbers behind it as CSV."""
    from lgmamba.config.files import read_config
    from lgmamba.records import find_record
    from lgmamba.tradeoff.config import TradeoffParams
    from lgmamba.tradeoff.keys import figure_key

    params = read_config(study, TradeoffParams)
    with making(out, lambda: figure_key(params, find_record(frames)), name, alone=False) as needed:
        if not needed:
            return say_current(out / name)
        from lgmamba.tradeoff.figures import draw

        draw(name, params, frames, out)


@app.command()
def report(
    study: Study,
    frames: Frames,
    figures: Annotated[Path, typer.Option(help="folder of the figures")],
    out: Annotated[Path, typer.Option(help="folder of the report")],
) -> None:
    """Write report.md and report.html."""
    from lgmamba.config.files import read_config
    from lgmamba.records import find_record
    from lgmamba.tradeoff.config import TradeoffParams
    from lgmamba.tradeoff.jobs import FIGURES
    from lgmamba.tradeoff.keys import report_key

    params = read_config(study, TradeoffParams)

    def key():
        return report_key(params, find_record(frames), {name: find_record(figures, name) for name in FIGURES})

    with making(out, key, alone=False) as needed:
        if not needed:
            return say_current(out)
        from lgmamba.tradeoff.report import write_report

        write_report(params, frames, figures, out)


@app.command()
def beside(
    sequences: Annotated[
        list[Path], typer.Argument(help="kept frames of studies of sequence models with several train.class_weight")
    ],
    encoders: Annotated[Path, typer.Option(help="kept frames of a trade-off study")] = Path("reports/tradeoff/frames"),
    level: Annotated[float, typer.Option(help="of the intervals")] = 0.95,
) -> None:
    """Print what the class costs a sequence model beside encoders that see the whole image, and what the studies answer: Markdown."""
    from lgmamba.tradeoff.beside import answers_table, beside_frame, beside_table, encoder_frontiers, sequence_frontiers

    found = [frontier for frames in sequences for frontier in sequence_frontiers(frames)]
    typer.echo(beside_table(beside_frame(found, encoder_frontiers(encoders), level)))
    typer.echo(answers_table(sequences), nl=False)


@app.command()
def keep(
    study: Study,
    frames: Frames,
    out: Annotated[Path, typer.Option(help="<reports>/frames")],
) -> None:
    """Copy the frames beside the report, to be kept in git."""
    from lgmamba.analysis.kept import keep as keep_frames
    from lgmamba.config.files import read_config
    from lgmamba.tradeoff.config import TradeoffParams
    from lgmamba.tradeoff.keys import FRAME_FILES

    keep_frames(read_config(study, TradeoffParams), FRAME_FILES, "tradeoff evaluate", frames, out)
    say_size(out)

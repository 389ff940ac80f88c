"""`lgmamba show`: what a study will do, and what that will cost, before anything runs."""

from pathlib import Path
from typing import Annotated

import typer

from lgmamba.cli.options import Device
from lgmamba.config.base import ConfigError
from lgmamba.config.files import write_config_files
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params, load_params
from lgmamba.config.text import parse_mapping
from lgmamba.jobs import jobs_of


def show(
    params: Annotated[Path, typer.Argument(help="params.yaml")] = Path("params.yaml"),
    preset: Annotated[str | None, typer.Option(help="a name in workflow/presets, or a YAML file")] = None,
    override: Annotated[
        str | None, typer.Option(help="further values as YAML, such as '{train: {steps: 500}}'")
    ] = None,
    measure: Annotated[
        bool, typer.Option(help="time a few training steps of each kind of run on this machine")
    ] = False,
    commands: Annotated[
        bool,
        typer.Option(
            help="print the command of every job instead, in an order that works, for a machine without Snakemake"
        ),
    ] = False,
    write: Annotated[bool, typer.Option(help="also write the stages' configuration files")] = False,
    device: Device = "auto",
) -> None:
    """Print the expanded table of experiments and its estimated cost."""
    study = load_params(params, preset, None if override is None else parse_mapping(override, "--override"))
    if write:
        for path in write_config_files(study):
            typer.echo(f"wrote {path}", err=True)
    if told := image_problem(study):
        typer.echo(f"note: {told}", err=True)
    if commands:
        for job in jobs_of(study).values():
            typer.echo(job.line)
        return
    show_table(study, _measured(study, device) if measure else None)


def image_problem(study: Params) -> str | None:
    """What is missing for the images to be built, or for their classes to be told apart, where they are not built yet; else None."""
    from lgmamba.data.artefact import MANIFEST
    from lgmamba.data.errors import DataError
    from lgmamba.data.labels import check_labels
    from lgmamba.data.local import check_there

    if (study.outputs.data / MANIFEST).is_file():
        return None
    try:
        check_there(study.data.source)
    except DataError as e:
        return f"data.source: {e}"
    heads = [run.model.class_head for run in study.runs_by_name().values() if run.model.class_head is not None]
    try:
        for classes in sorted({head.classes for head in heads}):
            check_labels(study.data, classes)
    except (ConfigError, DataError) as e:
        return str(e)
    return None


def image_shape(study: Params) -> tuple[int, int, int]:
    """Channels, height and width: as configured, as a source without files has them, or else those of the images that were built.

    Raises:
        DataError: the source decides about the size, and no images were built.
    """
    if study.data.source.kind == "none":
        return 0, 0, 0
    if study.data.source.kind == "text":
        return 1, 1, study.data.source.window
    source, size = study.data.source, study.data.size
    if size is None and source.kind in ("digits", "glyphs"):
        size = (8, 8) if source.kind == "digits" else (source.side, source.side)
    if size is not None:
        return 1 if study.data.channels == "grey" else 3, *size
    from lgmamba.data.artefact import read_manifest

    return read_manifest(study.outputs.data).image_shape


def show_table(study: Params, seconds: dict[str, float] | None) -> None:
    """Print the runs with their costs; `seconds`: of each run's training, where it was measured."""
    from rich.console import Console
    from rich.table import Table

    from lgmamba.analysis.families import describe_lengths, kind_of

    table = Table(title=f"study {study.study}: {len(study.runs)} runs x {len(study.seeds)} seeds", title_justify="left")
    for name in (
        "run",
        "kind",
        "lengths (patches)",
        "order",
        "supervision",
        "L0",
        "parameters",
        "steps",
        "patches read",
        "TFLOP",
    ):
        table.add_column(
            name, justify="left" if name in ("run", "kind", "lengths (patches)", "order", "supervision") else "right"
        )
    if seconds:
        table.add_column("minutes, one seed", justify="right")
    total = 0.0
    shape = image_shape(study)
    for name, run in study.runs_by_name().items():
        n, flop, patches = cost(run, shape)
        total += flop * len(study.seeds_of(name))
        cells = [
            name,
            kind_of(run),
            describe_lengths(run.task.lengths),
            run.task.order,
            run.task.supervision.kind,
            str(run.L0),
        ]
        cells += [f"{n:,}", f"{run.train.steps:,}", f"{patches:.2e}", f"{flop / 1e12:,.3g}"]
        table.add_row(*cells, *([f"{seconds[name] / 60:.1f}"] if seconds else []))
    console = Console(width=None if Console().is_terminal else 160)
    console.print(table)
    console.print(
        f"training in all: {total / 1e12:,.4g} TFLOP (matrix products, forward and backward); reconstructions, remedies and "
        "probes come on top and are not counted",
        highlight=False,
    )
    if seconds:
        every = sum(value * len(study.seeds_of(name)) for name, value in seconds.items())
        console.print(
            f"predicted from steps timed here: {every / 60:.1f} minutes of training, one run at a time; of nothing else",
            highlight=False,
        )
    for line in memory_lines(study):
        console.print(line, highlight=False)
    read, longest = study.evaluation, max(study.evaluation_steps(next(iter(study.runs_by_name().values()))))
    console.print(
        f"evaluation: {read.images} images of {read.split}, {read.repeats} orders each of {', '.join(read.orders)}, "
        f"up to {longest} patches" + (", on a GPU in TF32" if read.precision == "tf32" else ""),
        highlight=False,
    )


def memory_lines(study: Params) -> list[str]:
    """How long the mixers of the study remember as they are initialised, against L0; a line for each that differs."""
    from lgmamba.mixers.memory import memory_at_start

    runs: dict[tuple[str, int, int], list[str]] = {}
    for name, run in study.runs_by_name().items():
        runs.setdefault((run.model.mixer.model_dump_json(), run.model.d_model, run.L0), []).append(name)
    lines = []
    for names in runs.values():
        run = study.runs_by_name()[names[0]]
        memory, mixer = memory_at_start(run.model), run.model.mixer
        found = "keeps everything"
        if memory is not None:
            found = f"tau {memory.median:.3g} steps ({memory.low:.3g} to {memory.high:.3g}), {memory.median / run.L0:.2g} L0"
        lines.append(
            f"memory at initialisation, {mixer.title} ({mixer.numbers(run.model):,} numbers a layer), L0 = {run.L0}: {found}; "
            f"runs {', '.join(names)}"
        )
    return lines


def cost(run: RunConfig, shape: tuple[int, int, int]) -> tuple[int, float, float]:
    """Parameters, floating-point operations of the training's matrix products, and patches read (mean length x images).

    Two operations a multiply-add, and three times the forward pass for forward and backward; once for a passed part.
    """
    import torch

    from lgmamba.tasks.batch import passed_steps_pmf
    from lgmamba.tasks.lengths import LengthDistribution

    parameters, per_patch, decoder = sizes(run, shape)
    pmf = LengthDistribution(run.task.lengths).pmf()
    mean_length = float((pmf * torch.arange(len(pmf))).sum())
    decoded = {"last": 1, "all": mean_length}.get(run.task.supervision.kind, getattr(run.task.supervision, "k", 1))
    images = run.train.steps * run.train.batch_size
    flop, patches = 6.0 * images * (per_patch * mean_length + decoder * decoded), images * mean_length
    if (passing := run.train.state_passing) is not None:
        law = passed_steps_pmf(passing, run.L0)
        mean_passed = sum(n * p for n, p in enumerate(law)) * passing.sequences(run.train.batch_size)
        passed = run.train.steps * mean_passed
        flop, patches = flop + 2.0 * per_patch * passed, patches + passed
    return parameters, flop, patches


SHALLOW = 2
"""Blocks of a model that is built to be counted, at least: the first block may differ from the others, which are alike or take turns."""


def sizes(run: RunConfig, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Parameters of a run's model: all, those that every patch goes through, and those of the decoder.

    Two shallow models say how many a deep one has, which is then not built: 60 runs are shown in a second.
    """
    n, period = run.model.n_layer, run.model.mixer.period
    low = SHALLOW + (n - SHALLOW) % period
    if n <= low + period:
        return _counted(run, shape)
    few, more = (
        _counted(run.model_copy(update={"model": run.model.model_copy(update={"n_layer": depth})}), shape)
        for depth in (low, low + period)
    )
    total, per_patch, decoder = (a + (n - low) // period * (b - a) for a, b in zip(few, more, strict=True))
    return total, per_patch, decoder


OUTSIDE_OF_PATCHES = ("decoder", "embed_cell", "embed_move", "conditioning.trunk", "norm_out")
"""Parameters that are looked up, or used once a sequence or prediction."""


def _counted(run: RunConfig, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    import torch

    from lgmamba.tasks.registry import build_model

    with torch.device("meta"):  # sizes only, whatever they are
        model = build_model(run, shape)
    count = {name: p.numel() for name, p in model.named_parameters()}
    decoder = sum(n for name, n in count.items() if name.startswith("decoder"))
    per_patch = sum(n for name, n in count.items() if not name.startswith(OUTSIDE_OF_PATCHES))
    return sum(count.values()), per_patch, decoder


def _measured(study: Params, device: str) -> dict[str, float]:
    """Seconds of each run's training, predicted from steps timed here on random images."""
    import time

    import torch

    from lgmamba.data.dataset import in_memory
    from lgmamba.devices import torch_device
    from lgmamba.tasks.registry import build_model, build_task
    from lgmamba.train.graph import WARM_UP
    from lgmamba.train.optimizer import build_optimizer
    from lgmamba.train.step import TrainStep

    where = torch_device(device)
    on_cuda = where.type == "cuda"
    dataset = in_memory(torch.randint(256, (512, *image_shape(study)), dtype=torch.uint8, device=where))
    seconds = {}
    for name, run in study.runs_by_name().items():
        torch.set_num_threads(run.train.cpu_threads)
        model, task = build_model(run, dataset.image_shape).to(where), build_task(run, dataset)
        step = TrainStep(model, build_optimizer(model, run.train), task, run.train.grad_clip, on_cuda, on_cuda)
        sampler = task.sampler(dataset.split("train"), run.train, 0, on_cuda)
        n = 20 if on_cuda else 5
        for i in range(WARM_UP + 1 + n):
            if i == WARM_UP + 1:
                _finish(where)
                begun = time.perf_counter()
            step(sampler.draw(i))
        _finish(where)
        seconds[name] = (time.perf_counter() - begun) / n * run.train.steps
    return seconds


def _finish(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()

"""Every stage of such a study: its command line, its folder, what decides its result; the files through which it is configured.

<results>/frozen/{study,data,stack-<name>}-<digest>.json   what the stages read, named by their own digests
<results>/config/study.json                                as configured last, for people
<results>/stacks/<name>/                                   written by `tradeoff train`
<results>/frames/, <reports>/                              written by the other stages
"""

from pathlib import Path

from lgmamba import keys as image_keys
from lgmamba.config.base import Strict
from lgmamba.config.files import DataFile, Layout, refuse_other_study
from lgmamba.data.listing import images_digest
from lgmamba.files import digest_of, to_json, write_if_changed
from lgmamba.jobs import Job, JobName
from lgmamba.records import Record, find_record
from lgmamba.tradeoff import keys
from lgmamba.tradeoff.config import TradeoffParams
from lgmamba.tradeoff.stack_file import StackFile

FIGURES = ("frontier", "exchange", "pictures", "controls", "gradients")
"""In the order of the report."""


def data_file(params: TradeoffParams) -> DataFile:
    """What the stage `data` reads."""
    return DataFile(data=params.data, patch_sizes=params.patch_sizes or [1])


def frozen_path(params: TradeoffParams, file: Strict) -> Path:
    """Where a stage finds its configuration, under a name that holds its digest."""
    names = {TradeoffParams: "study", DataFile: "data", StackFile: f"stack-{getattr(file, 'name', '')}"}
    digest = digest_of(file.model_dump(mode="json"))
    return Layout(params.outputs.results).frozen / f"{names[type(file)]}-{digest[:16]}.json"


def write_files(params: TradeoffParams, root: str | Path = ".") -> None:
    """Write every configuration file, relative to `root`.

    Raises:
        ConfigError: the folders hold another study.
    """
    refuse_other_study(params, root)
    for file in (params, data_file(params), *params.stacks().values()):
        write_if_changed(Path(root) / frozen_path(params, file), to_json(file.model_dump(mode="json")))
    study = Layout(Path(root) / params.outputs.results).study
    write_if_changed(study, to_json(params.model_dump(mode="json")))


def stack_dir(results: Path, name: str) -> Path:
    """Folder of one stack."""
    return results / "stacks" / name


def jobs_of(params: TradeoffParams) -> dict[JobName, Job]:
    """Every job of a study, in an order that works."""
    results = params.outputs.results
    jobs: dict[JobName, Job] = {("data",): _data(params)}
    jobs |= {job.name: job for job in (_train(params, stack) for stack in params.stacks().values())}
    study, frames = frozen_path(params, params), Layout(results).frames
    jobs["evaluate",] = Job(
        ("evaluate",),
        _words("evaluate", study=study, results=results, out=frames),
        frames,
        tuple(name for name in jobs if name != ("data",)),
        lambda: keys.frames_key(params, records_of(params)),
    )
    return jobs | drawn_jobs(params, frames, study, (("evaluate",),))


def drawn_jobs(
    params: TradeoffParams, frames: Path, study: Path, after: tuple[JobName, ...] = ()
) -> dict[JobName, Job]:
    """Figures and report, from frames made by the jobs `after`, or kept."""
    reports = params.outputs.reports
    folder = reports / "figures"
    jobs = {
        ("figure", name): Job(
            ("figure", name),
            ("lgmamba", "tradeoff", "figure", name, *_options(study=study, frames=frames, out=folder)),
            folder,
            after,
            lambda: keys.figure_key(params, find_record(frames)),
            part=name,
        )
        for name in FIGURES
    }
    report = Job(
        ("report",),
        _words("report", study=study, frames=frames, figures=folder, out=reports),
        reports,
        (*after, *jobs),
        lambda: keys.report_key(params, find_record(frames), {name: find_record(folder, name) for name in FIGURES}),
    )
    return jobs | {report.name: report}


def keep_frames_job(params: TradeoffParams) -> Job:
    """Keep beside the report what it is made from; only when asked for, hence not among `jobs_of`."""
    frames, out = Layout(params.outputs.results).frames, params.outputs.reports / "frames"
    return Job(
        ("keep_frames",),
        _words("keep", study=frozen_path(params, params), frames=frames, out=out),
        out,
        (("evaluate",),),
        lambda: keys.frames_key(params, records_of(params)),
    )


def records_of(params: TradeoffParams) -> dict[str, Record | None]:
    """Stack -> record of its result."""
    return {name: find_record(stack_dir(params.outputs.results, name)) for name in params.stacks()}


def _data(params: TradeoffParams) -> Job:
    out = params.outputs.data
    return Job(
        ("data",),
        ("lgmamba", "data", *_options(config=frozen_path(params, data_file(params)), out=out)),
        out,
        (),
        lambda: image_keys.data_key(params.data, images_digest(params.data, find_record(out))),
    )


def _train(params: TradeoffParams, stack: StackFile) -> Job:
    data, out = params.outputs.data, stack_dir(params.outputs.results, stack.name)
    return Job(
        ("train", stack.name),
        _words("train", config=frozen_path(params, stack), data=data, out=out, device=params.device),
        out,
        (("data",),),
        lambda: keys.stack_key(stack, _images(data)),
    )


def _images(data: Path) -> str:
    """Recorded digest of the images' tensors; "" where there are none."""
    record = find_record(data)
    files = {} if record is None else record.files
    return next((digest for name, digest in files.items() if name.endswith(".safetensors")), "")


def _words(stage: str, **options: Path | str) -> tuple[str, ...]:
    return ("lgmamba", "tradeoff", stage, *_options(**options))


def _options(**options: Path | str) -> tuple[str, ...]:
    return tuple(word for name, value in options.items() for word in (f"--{name}", str(value)))

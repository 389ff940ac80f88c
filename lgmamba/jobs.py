"""Every job of a study: its command line, its folder, and whether its result is current.

One list for all who run stages: Snakemake's rules, `lgmamba show --commands`, and the script for machines without
Snakemake. Nothing heavy is imported.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lgmamba import keys
from lgmamba.analysis import figures_of, folders_read, frames_drawn, kept_frames
from lgmamba.config.files import (
    EvaluationFile,
    Layout,
    ProbesFile,
    RemedyFile,
    data_file,
    evaluation_file,
    frozen_path,
    probes_file,
    remedy_file,
    tracking_file,
)
from lgmamba.config.run import RunConfig, weights_path
from lgmamba.config.study import Params
from lgmamba.config.training import is_run_name
from lgmamba.data.listing import images_digest
from lgmamba.records import Key, Record, find_record, reason_to_make
from lgmamba.train.shapes import by_shape

JobName = tuple[str, ...]
"""("data",), ("train", run, seed), ("figure", name), ...: the stage, and which of its jobs."""


@dataclass(frozen=True)
class Job:
    """One call of one stage.

    Attributes:
        name: stage, and what tells the jobs of a stage apart.
        words: the command line after `python -m`.
        out: folder of the result.
        part: name of the result, where the folder holds several.
        after: jobs whose results are read.
        key: what the result is to be made from, given what is there now.
    """

    name: JobName
    words: tuple[str, ...]
    out: Path
    after: tuple[JobName, ...]
    key: Callable[[], Key] = field(repr=False)
    part: str | None = None

    @property
    def stage(self) -> str:
        return self.name[0]

    @property
    def line(self) -> str:
        """The command as one line for a shell."""
        return shlex.join(["python", "-m", *self.words])


def jobs_of(params: Params) -> dict[JobName, Job]:
    """Every job of a study, in an order that works."""
    layout = Layout(params.outputs.results)
    jobs: dict[JobName, Job] = {("data",): _data(params)}
    for (name, _), run in params.run_configs().items():
        found = [_train(params, run), _reading(params, run, "reconstruct")]
        if params.remedy_evaluation is not None and name in params.remedy_evaluation.runs:
            found.append(_reading(params, run, "remedy"))
        if params.probes is not None and name in params.probes.runs:
            found.append(_reading(params, run, "probes"))
        jobs |= {job.name: job for job in found}
    study = frozen_path(layout, params)
    jobs["evaluate",] = Job(
        ("evaluate",),
        _words("evaluate", study=study, results=layout.results, out=layout.frames),
        layout.frames,
        tuple(name for name in jobs if name[0] != "data"),
        lambda: keys.evaluate_key(params, records_below(layout.results, params)),
    )
    return jobs | drawn_jobs(params, layout.frames, study, params.outputs.reports, (("evaluate",),))


SMALLEST_STACK = 4
"""Trainings in a part of a stack, at least: what a call costs whatever it trains is shared by so many."""


def stack_jobs(params: Params, gpus: int = 1) -> list[Job]:
    """Calls of `train-stack` for the trainings of one shape, where there are several; not among `jobs_of`.

    A short cut for GPUs: afterwards the trainings in its `after` are current, or as far as they came. What has one shape is one call for each of
    `gpus`, as far as there are enough trainings.
    """
    layout, runs = Layout(params.outputs.results), list(params.run_configs().values())
    jobs = []
    for group in (part for whole in by_shape(runs, lambda run: run) for part in _parts(whole, gpus)):
        if len(group) == 1:
            continue
        folders = [str(layout.run_dir(run.run, run.seed)) for run in group]
        options = _options(data=params.outputs.data, **_track(params), device=params.device)
        first = _train(params, group[0])
        jobs.append(
            Job(
                ("train-stack", *first.name[1:]),
                ("lgmamba", "train-stack", *folders, *options),
                first.out,
                tuple(("train", run.run, str(run.seed)) for run in group),
                first.key,
            )
        )
    return jobs


def _parts(group: list[RunConfig], most: int) -> list[list[RunConfig]]:
    """A group cut into at most so many parts of nearly equal size."""
    n = max(1, min(most, len(group) // SMALLEST_STACK))
    return [group[len(group) * k // n : len(group) * (k + 1) // n] for k in range(n)]


def records_below(results: Path, params: Params) -> dict[str, Record | None]:
    """Folder below `results` -> record of every result that frames are made from."""
    return {where: find_record(results / where) for where in folders_read(params)}


def drawn_jobs(
    params: Params, frames: Path, study: Path, reports: Path, after: tuple[JobName, ...] = ()
) -> dict[JobName, Job]:
    """Figures and report.

    Args:
        params: the study, as the file `study` has it.
        frames: folder of the frames.
        study: configuration file.
        reports: folder of the report.
        after: jobs that make the frames; none where they are kept.
    """
    folder, names = reports / "figures", figures_of(params)
    figures = [_figure(params, name, frames, study, folder, after) for name in names]
    report = Job(
        ("report",),
        _words("report", study=study, frames=frames, figures=folder, out=reports),
        reports,
        (*after, *(job.name for job in figures)),
        lambda: keys.report_key(
            params, find_record(frames), kept_frames(params), {name: find_record(folder, name) for name in names}
        ),
    )
    return {job.name: job for job in (*figures, report)}


def _figure(params: Params, name: str, frames: Path, study: Path, folder: Path, after: tuple[JobName, ...]) -> Job:
    words = ("lgmamba", "figure", name, *_options(study=study, frames=frames, out=folder))
    return Job(
        ("figure", name),
        words,
        folder,
        after,
        lambda: keys.figure_key(params, find_record(frames), frames_drawn(name)),
        part=name,
    )


def track_report_job(params: Params) -> Job:
    """Tell the tracking store of the report; not among `jobs_of`, since no result depends on it."""
    layout = Layout(params.outputs.results)
    given = {"config": frozen_path(layout, tracking_file(params)), "study": frozen_path(layout, params)}
    return Job(
        ("track_report",),
        (
            "lgmamba",
            "track",
            "report",
            *_options(**given, reports=params.outputs.reports, frames=layout.frames, out=layout.markers),
        ),
        layout.markers,
        (("report",),),
        lambda: keys.track_report_key(params, find_record(params.outputs.reports)),
    )


def keep_frames_job(params: Params) -> Job:
    """Keep beside the report what it is made from; only when asked for, hence not among `jobs_of`.

    The record kept is that of `evaluate`, so that frames of another configuration, code or runs are not current there.
    """
    layout, out = Layout(params.outputs.results), params.outputs.reports / "frames"
    return Job(
        ("keep_frames",),
        _words("keep", study=frozen_path(layout, params), frames=layout.frames, out=out),
        out,
        (("evaluate",),),
        lambda: keys.evaluate_key(params, records_below(layout.results, params)),
    )


class Currency:
    """Which jobs have a result that is there, whole, and made from what is configured and read now.

    A job whose inputs are not current is not current either. Each job is looked at once.
    """

    def __init__(self, jobs: dict[JobName, Job], again: Callable[[JobName], bool] = lambda name: False):
        self._jobs, self._again = jobs, again
        self._reasons: dict[JobName, str | None] = {}

    def reason(self, name: JobName) -> str | None:
        """Why a job has to run, in a few words; None where its result is current."""
        if name not in self._reasons:
            self._reasons[name] = self._look(self._jobs[name])
        return self._reasons[name]

    def _look(self, job: Job) -> str | None:
        if self._again(job.name):
            return "asked for"
        before = next((name for name in job.after if self.reason(name)), None)
        if before is not None:
            return f"after {' '.join(before)}"
        return reason_to_make(job.key(), job.out, job.part)


def _data(params: Params) -> Job:
    out, file = params.outputs.data, data_file(params)
    words = _words("data", config=frozen_path(Layout(params.outputs.results), file), out=out)
    return Job(
        ("data",), words, out, (), lambda: keys.data_key(params.data, images_digest(params.data, find_record(out)))
    )


def _train(params: Params, run: RunConfig) -> Job:
    layout, data = Layout(params.outputs.results), params.outputs.data
    home, source = layout.run_dir(run.run, run.seed), run.train.init_from
    given = {"run": frozen_path(layout, run), "data": data, "out": home / "train", "work": home / "work"}
    return Job(
        ("train", run.run, str(run.seed)),
        _words("train", **given, **_track(params), device=params.device),
        home / "train",
        (("data",), *((("train", source, str(run.seed)),) if source is not None and is_run_name(source) else ())),
        lambda: keys.train_key(run, _digest(data, ".safetensors"), weights_path(run, home / "train")),
    )


ReadingFile = EvaluationFile | RemedyFile | ProbesFile
FOLDERS = {"reconstruct": "evaluation", "remedy": "remedies", "probes": "probes"}
FILES: dict[str, Callable[[Params, RunConfig], ReadingFile]] = {
    "reconstruct": evaluation_file,
    "remedy": remedy_file,
    "probes": probes_file,
}


def _reading(params: Params, run: RunConfig, stage: str) -> Job:
    layout, data = Layout(params.outputs.results), params.outputs.data
    home, file = layout.run_dir(run.run, run.seed), FILES[stage](params, run)
    given = {"config": frozen_path(layout, file), "train": home / "train", "data": data, "out": home / FOLDERS[stage]}
    given |= {"work": home / "work", **_track(params)} if stage == "remedy" else {}
    which = (run.run, str(run.seed))
    return Job(
        (stage, *which),
        _words(stage, **given, device=params.device),
        home / FOLDERS[stage],
        (("data",), ("train", *which)),
        lambda: keys.reading_key(file, _digest(data, ".safetensors"), _digest(home / "train", "model.safetensors")),
    )


def _digest(folder: Path, end: str) -> str:
    """Recorded digest of the file in a folder whose name ends so; "" where there is none."""
    record = find_record(folder)
    files = {} if record is None else record.files
    return next((digest for name, digest in files.items() if name.endswith(end)), "")


def _track(params: Params) -> dict[str, Path]:
    return {"track": params.tracking.store} if params.tracking.kind == "mlflow" else {}


def _words(stage: str, **options: Path | str) -> tuple[str, ...]:
    return ("lgmamba", stage, *_options(**options))


def _options(**options: Path | str) -> tuple[str, ...]:
    return tuple(word for name, value in options.items() for word in (f"--{name}", str(value)))

"""The files through which a study's configuration reaches its stages, and where everything of a study lies.

    <results>/frozen/<stage>-...-<digest>.json                          what the stages read
    <results>/config/{study,data,tracking}.json, code/<stage>.txt       the same as configured last, for people and DVC
    <results>/runs/<run>/seed<k>/{run,evaluation}.json                  the same
    <results>/runs/<run>/seed<k>/remedy.json                            the same, for the runs of `remedy_evaluation`
    <results>/runs/<run>/seed<k>/probes.json                           the same, for the runs of `probes`
    <results>/runs/<run>/seed<k>/{train,evaluation,remedies,probes,work}/   written by the stages
    <results>/{frames,logs,benchmarks,markers}/

A stage reads one file and nothing else. That file is named by its own digest and never changes, so whatever another call
configures meanwhile, a running one reads what it was started with.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from lgmamba.config.base import ConfigError, Strict, validate, with_new_names
from lgmamba.config.data import DataConfig
from lgmamba.config.differences import differing
from lgmamba.config.probes import ProbesConfig
from lgmamba.config.remedies import Remedies, RemedyEvaluationConfig
from lgmamba.config.run import Positive, RunConfig
from lgmamba.config.study import EvaluationConfig, OutputsConfig, Params, ReadingPrecision, TrackingConfig
from lgmamba.config.task import TaskBase
from lgmamba.files import digest_of, to_json, write_if_changed
from lgmamba.provenance import code_digest

M = TypeVar("M", bound=Strict)

ENTRY_MODULES = {
    "data": "lgmamba.data.build",
    "train": "lgmamba.train.loop",
    "reconstruct": "lgmamba.probe.reconstruct",
    "remedy": "lgmamba.probe.remedy",
    "probes": "lgmamba.probe.probes",
    "evaluate": "lgmamba.analysis.evaluate",
    "figure": "lgmamba.figures",
    "report": "lgmamba.report",
}
"""Stage -> the module whose code, with all that it imports, decides the stage's result."""


def evaluation_files(task: TaskBase, maps: bool = True, pictures: bool = True) -> tuple[str, ...]:
    """What `reconstruct` writes: maps of what is kept where steps show parts of a target, pictures where there are images, details.

    Args:
        maps, pictures: whether those are among them; frames need no maps that the report leaves out, and the pictures of one seed.
    """
    tied = ("retention.parquet",) if maps and task.TIED else ()
    panel = ("panel.safetensors",) if pictures and task.IMAGES else ()
    details = tuple(f"{name}.parquet" for name in task.DETAILS)
    return ("evaluation.json", "steps.parquet", *tied, *panel, *details)


def remedy_files(task: TaskBase) -> tuple[str, ...]:
    """What `remedy` writes besides calibrated values."""
    return ("remedies.json", "steps.parquet", *(("retention.parquet",) if task.TIED else ()))


class DataFile(Strict):
    """data.json: the images, and the patch sizes that must divide them."""

    data: DataConfig
    patch_sizes: list[Positive]


class EvaluationFile(Strict):
    """evaluation.json of one run and seed: the run, how it is read, at which steps, and at which steps pictures are kept."""

    run: RunConfig
    evaluation: EvaluationConfig
    steps: list[Positive]
    panel_steps: list[Positive]


class ReadingConfig(Strict):
    """What remedies share with the evaluation: images of which split, how many of them and of their steps at a time, how exactly."""

    RENAMED: ClassVar = {"piece": "chunk"}

    split: str
    batch_images: Positive
    chunk: Positive
    precision: ReadingPrecision = "fp32"


class RemedyFile(Strict):
    """remedy.json of one run and seed: the run, what is done to it, and how it is read."""

    RENAMED: ClassVar = {"extension": "remedy_evaluation", "probe": "evaluation"}

    run: RunConfig
    evaluation: ReadingConfig
    remedies: Remedies
    remedy_evaluation: RemedyEvaluationConfig
    steps: list[Positive]


class ProbesFile(Strict):
    """probes.json of one run and seed: the run, which probes of it, with images of which split, and at which steps."""

    RENAMED: ClassVar = {"inspect": "probes"}

    run: RunConfig
    probes: ProbesConfig
    split: str
    steps: list[Positive]


class TrackingFile(TrackingConfig):
    """tracking.json: where to record, and under which name."""

    study: str


@dataclass(frozen=True)
class Layout:
    """Paths of one study. `run` and `seed` may be Snakemake wildcards such as "{run}"."""

    results: Path

    @property
    def config(self) -> Path:
        return self.results / "config"

    @property
    def frozen(self) -> Path:
        """Configuration files that never change; nothing else lies here, and whatever no call is reading may be removed."""
        return self.results / "frozen"

    @property
    def study(self) -> Path:
        return self.config / "study.json"

    @property
    def data(self) -> Path:
        return self.config / "data.json"

    @property
    def tracking(self) -> Path:
        return self.config / "tracking.json"

    @property
    def frames(self) -> Path:
        return self.results / "frames"

    @property
    def markers(self) -> Path:
        """Records of what was done outside the study's folders."""
        return self.results / "markers"

    def code(self, stage: str) -> Path:
        return self.config / "code" / f"{stage}.txt"

    def run_json(self, run: str, seed: int | str) -> Path:
        return self.run_dir(run, seed) / "run.json"

    def evaluation_json(self, run: str, seed: int | str) -> Path:
        return self.run_dir(run, seed) / "evaluation.json"

    def remedy_json(self, run: str, seed: int | str) -> Path:
        return self.run_dir(run, seed) / "remedy.json"

    def probes_json(self, run: str, seed: int | str) -> Path:
        return self.run_dir(run, seed) / "probes.json"

    def run_dir(self, run: str, seed: int | str) -> Path:
        return self.results / "runs" / run / f"seed{seed}"


def write_config_files(params: Params, root: str | Path = ".") -> list[Path]:
    """Write the configuration files of a study, relative to `root`; returns those whose content changed.

    Raises:
        ConfigError: the folders hold another study.
    """
    refuse_other_study(params, root)
    layout = Layout(Path(root) / params.outputs.results)
    contents = config_contents(params, layout)
    contents |= {frozen_path(layout, file): to_json(file.model_dump(mode="json")) for file in frozen_files(params)}
    return [path for path, content in contents.items() if write_if_changed(path, content)]


class OfStudy(Protocol):
    """The configuration of a whole study, of whatever kind."""

    @property
    def study(self) -> str: ...

    @property
    def outputs(self) -> OutputsConfig: ...

    @property
    def data(self) -> DataConfig: ...


def refuse_other_study(params: OfStudy, root: str | Path = ".") -> None:
    """Never write over another study.

    Raises:
        ConfigError: results, report or images of another study lie where this one's would go; says which and where.
    """
    outputs = params.outputs
    _refuse_images_of_another(params, root)
    marks = {
        "results": Layout(Path(root) / outputs.results).study,
        "reports": Path(root) / outputs.reports / "headline.json",
    }
    for name, path in marks.items():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["study"]
        except (OSError, ValueError, KeyError, TypeError):  # nothing there, or nothing that says whose it is
            continue
        if found != params.study:
            raise ConfigError(
                f"outputs.{name}: found {getattr(outputs, name)}, which holds study {found!r}; expected: a folder of study "
                f"{params.study!r} alone, such as {name}/{params.study} (the default), or take the other study away"
            )


def _refuse_images_of_another(params: OfStudy, root: str | Path) -> None:
    """Studies may share a folder of images, but each would build it anew, and then train anew, if it wants other ones than the rest."""
    folder, wanted = os.path.realpath(Path(root) / params.outputs.data), params.data.model_dump(mode="json")
    for path in sorted((Path(root) / params.outputs.results).parent.glob("*/config/study.json")):
        try:
            other = json.loads(path.read_text(encoding="utf-8"))
            name, where = other["study"], os.path.realpath(Path(root) / other["outputs"]["data"])
            if name == params.study or where != folder:
                continue
            found = validate(DataConfig, with_new_names(other["data"], DataConfig), str(path)).model_dump(mode="json")
        except (OSError, ValueError, KeyError, TypeError):  # nothing that says what it wants
            continue
        if keys := ", ".join(differing({"data": found}, {"data": wanted})):
            raise ConfigError(
                f"outputs.data: found {params.outputs.data}, where study {name!r} has its images, which differ in {keys} ({path}); expected: "
                "another folder, or `data` as there. If that study is no longer wanted, remove its file"
            )


def config_contents(params: Params, layout: Layout) -> dict[Path, str]:
    """Path -> content of every file that says how the study is configured now."""
    models: dict[Path, Strict] = {
        layout.study: params,
        layout.data: data_file(params),
        layout.tracking: tracking_file(params),
    }
    for (name, seed), run in params.run_configs().items():
        models[layout.run_json(name, seed)] = run
        models[layout.evaluation_json(name, seed)] = evaluation_file(params, run)
        if params.remedy_evaluation is not None and name in params.remedy_evaluation.runs:
            models[layout.remedy_json(name, seed)] = remedy_file(params, run)
        if params.probes is not None and name in params.probes.runs:
            models[layout.probes_json(name, seed)] = probes_file(params, run)
    contents = {path: to_json(model.model_dump(mode="json")) for path, model in models.items()}
    return contents | {layout.code(stage): code_digest(module) + "\n" for stage, module in ENTRY_MODULES.items()}


def data_file(params: Params) -> DataFile:
    """What the stage `data` reads."""
    patch_sizes = sorted({side for run in params.runs_by_name().values() for side in run.task.divisors})
    return DataFile(data=params.data, patch_sizes=patch_sizes)


def tracking_file(params: Params) -> TrackingFile:
    """What `lgmamba track` reads."""
    return TrackingFile(study=params.study, **params.tracking.model_dump())


def evaluation_file(params: Params, run: RunConfig) -> EvaluationFile:
    """What the stage `reconstruct` reads of one run and seed."""
    return EvaluationFile(
        run=run, evaluation=params.evaluation, steps=params.evaluation_steps(run), panel_steps=params.panel_steps()
    )


def remedy_file(params: Params, run: RunConfig) -> RemedyFile:
    """What the stage `remedy` reads of one run and seed; the study tries some."""
    reading = ReadingConfig(**params.evaluation.model_dump(include=set(ReadingConfig.model_fields)))
    steps = params.the_remedy_evaluation.steps(run.L0)
    return RemedyFile(
        run=run,
        evaluation=reading,
        remedies=params.remedies,
        remedy_evaluation=params.the_remedy_evaluation,
        steps=steps,
    )


def probes_file(params: Params, run: RunConfig) -> ProbesFile:
    """What the stage `probes` reads of one run and seed; the study looks into runs."""
    return ProbesFile(
        run=run, probes=params.the_probes, split=params.evaluation.split, steps=params.the_probes.steps(run.L0)
    )


def frozen_files(params: Params) -> list[Strict]:
    """Every file that a stage of the study reads."""
    files: list[Strict] = [params, data_file(params), tracking_file(params)]
    for (name, _), run in params.run_configs().items():
        files += [run, evaluation_file(params, run)]
        files += (
            [remedy_file(params, run)]
            if params.remedy_evaluation is not None and name in params.remedy_evaluation.runs
            else []
        )
        files += [probes_file(params, run)] if params.probes is not None and name in params.probes.runs else []
    return files


FROZEN_NAMES = {
    Params: "study",
    DataFile: "data",
    TrackingFile: "tracking",
    RunConfig: "train",
    EvaluationFile: "reconstruct",
    RemedyFile: "remedy",
    ProbesFile: "probes",
}


def frozen_path(layout: Layout, file: Strict) -> Path:
    """Where a stage finds its configuration, under a name that holds its digest."""
    run = file if isinstance(file, RunConfig) else getattr(file, "run", None)
    which = f"-{run.run}-seed{run.seed}" if isinstance(run, RunConfig) else ""
    digest = digest_of(file.model_dump(mode="json"))
    return layout.frozen / f"{FROZEN_NAMES[type(file)]}{which}-{digest[:16]}.json"


def read_config(path: str | Path, model: type[M]) -> M:
    """One of the files above: Params, DataFile, RunConfig, EvaluationFile, RemedyFile, ProbesFile or TrackingFile. Keys of an older
    version are understood, since a program wrote them.

    Raises:
        ConfigError: missing, not JSON, or with values that do not fit; names the file and each key.
    """
    try:
        values: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; it is written when the workflow starts, and by `lgmamba show --write`"
        ) from None
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read ({e.strerror})") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as e:
        raise ConfigError(f"{path} is not JSON: {e}") from None
    return validate(model, with_new_names(values, model), str(path))

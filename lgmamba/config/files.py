"""The files through which a study's configuration reaches its stages, and where everything of a study lies.

    <results>/config/{study,data,tracking}.json, code/<stage>.txt       written here, read by the stages
    <results>/runs/<run>/seed<k>/{run,probe}.json                       written here, read by the stages
    <results>/runs/<run>/seed<k>/remedy.json                            the same, for the runs of `extension`
    <results>/runs/<run>/seed<k>/inspect.json                           the same, for the runs of `inspect`
    <results>/runs/<run>/seed<k>/{train,probe,remedies,inspect,work}/   written by the stages
    <results>/{frames,logs,benchmarks,markers}/

A stage reads its own file and nothing else, and Snakemake and DVC see that file as an input. So a changed value reruns
the stages that depend on it, also on a machine that lost Snakemake's records; and since a file is only written when
its content changes, nothing else runs.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lgmamba.config.base import ConfigError, Strict, validate
from lgmamba.config.data import DataConfig
from lgmamba.config.inspect import InspectConfig
from lgmamba.config.remedies import ExtensionConfig, Remedies
from lgmamba.config.run import Positive, RunConfig
from lgmamba.config.study import Params, ProbeConfig, TrackingConfig
from lgmamba.config.task import TaskBase
from lgmamba.files import to_json, write_if_changed
from lgmamba.provenance import code_digest

M = TypeVar("M", bound=Strict)

ENTRY_MODULES = {
    "data": "lgmamba.data.build",
    "train": "lgmamba.train.loop",
    "reconstruct": "lgmamba.probe.reconstruct",
    "remedy": "lgmamba.probe.remedy",
    "inspect": "lgmamba.probe.inspect",
    "evaluate": "lgmamba.analysis.evaluate",
    "figure": "lgmamba.figures",
    "report": "lgmamba.report",
}
"""Stage -> the module whose code, with all that it imports, decides the stage's result."""


def probe_files(task: TaskBase) -> tuple[str, ...]:
    """What `reconstruct` writes: maps of what is kept where steps show parts of a target, pictures where there are images, details."""
    maps = ("retention.parquet",) if task.TIED else ()
    details = tuple(f"{name}.parquet" for name in task.DETAILS)
    return ("probe.json", "steps.parquet", *maps, *(("panel.safetensors",) if task.IMAGES else ()), *details)


class DataFile(Strict):
    """data.json: the images, and the patch sizes that must divide them."""

    data: DataConfig
    patch_sizes: list[Positive]


class ProbeFile(Strict):
    """probe.json of one run and seed: the run, how to probe it, and at which steps."""

    run: RunConfig
    probe: ProbeConfig
    steps: list[Positive]


class RemedyFile(Strict):
    """remedy.json of one run and seed: the run, what is done to it, and how it is read."""

    run: RunConfig
    probe: ProbeConfig
    remedies: Remedies
    extension: ExtensionConfig
    steps: list[Positive]


class InspectFile(Strict):
    """inspect.json of one run and seed: the run, what to look at in it, with images of which split, and at which steps."""

    run: RunConfig
    inspect: InspectConfig
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
        """Empty files that say that something outside the study's folders was done."""
        return self.results / "markers"

    def code(self, stage: str) -> Path:
        return self.config / "code" / f"{stage}.txt"

    def run_json(self, run: str, seed: int | str) -> Path:
        return self.run_dir(run, seed) / "run.json"

    def probe_json(self, run: str, seed: int | str) -> Path:
        return self.run_dir(run, seed) / "probe.json"

    def remedy_json(self, run: str, seed: int | str) -> Path:
        return self.run_dir(run, seed) / "remedy.json"

    def inspect_json(self, run: str, seed: int | str) -> Path:
        return self.run_dir(run, seed) / "inspect.json"

    def run_dir(self, run: str, seed: int | str) -> Path:
        return self.results / "runs" / run / f"seed{seed}"


def write_config_files(params: Params, root: str | Path = ".") -> list[Path]:
    """Write the configuration files of a study, relative to `root`; returns those whose content changed."""
    layout = Layout(Path(root) / params.outputs.results)
    contents = config_contents(params, layout)
    return [path for path, content in contents.items() if write_if_changed(path, content)]


def config_contents(params: Params, layout: Layout) -> dict[Path, str]:
    """Path -> content of every configuration file of a study."""
    patch_sizes = sorted({side for run in params.runs_by_name().values() for side in run.task.divisors})
    models: dict[Path, Strict] = {
        layout.study: params,
        layout.data: DataFile(data=params.data, patch_sizes=patch_sizes),
        layout.tracking: TrackingFile(study=params.study, **params.tracking.model_dump()),
    }
    for (name, seed), run in params.run_configs().items():
        models[layout.run_json(name, seed)] = run
        models[layout.probe_json(name, seed)] = ProbeFile(run=run, probe=params.probe, steps=params.probe_steps(run))
        if params.extension is not None and name in params.extension.runs:
            models[layout.remedy_json(name, seed)] = RemedyFile(
                run=run,
                probe=params.probe,
                remedies=params.remedies,
                extension=params.extension,
                steps=params.extension.steps(run.L0),
            )
        if params.inspect is not None and name in params.inspect.runs:
            models[layout.inspect_json(name, seed)] = InspectFile(
                run=run, inspect=params.inspect, split=params.probe.split, steps=params.inspect.steps(run.L0)
            )
    contents = {path: to_json(model.model_dump(mode="json")) for path, model in models.items()}
    return contents | {layout.code(stage): code_digest(module) + "\n" for stage, module in ENTRY_MODULES.items()}


def read_config(path: str | Path, model: type[M]) -> M:
    """One of the files above: Params, DataFile, RunConfig, ProbeFile, RemedyFile, InspectFile or TrackingFile.

    Raises:
        ConfigError: missing, not JSON, or with values that do not fit; names the file and each key.
    """
    try:
        values: Any = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; it is written when the workflow starts (snakemake -n is enough)"
        ) from None
    except json.JSONDecodeError as e:
        raise ConfigError(f"{path} is not JSON: {e}") from None
    return validate(model, values, str(path))

"""What comes before the rules: the configuration given by hand, and the environment of the jobs."""

import shlex
import shutil
from glob import glob
from os.path import dirname

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

from lgmamba.config.base import ConfigError
from lgmamba.config.study import load_params
from lgmamba.config.text import parse as parse_text  # not parse, a name of Snakemake's


def study_params():
    """params.yaml <- preset <- values given by hand (--config, --configfile), validated."""
    try:
        given = {key: typed(value) for key, value in config.items() if key != "frames"}
        return load_params(
            os.path.relpath(os.path.join(workflow.basedir, "params.yaml")),
            preset=given.pop("preset", None),
            overrides=given,
        )
    except ConfigError as e:
        raise WorkflowError(str(e)) from None


def frames_are_kept():
    """Whether figures and report are to be made from the frames kept beside the report (--config frames=kept)."""
    given = config.get("frames")
    if given is None:
        return False
    if given != "kept":
        raise WorkflowError(f"frames: found {given!r}, expected: kept, or nothing")
    from lgmamba.analysis.kept import check_kept  # polars, which other calls need not wait for

    folder = PARAMS.outputs.reports / "frames"
    try:
        check_kept(PARAMS, folder)
    except ConfigError as e:
        raise WorkflowError(str(e)) from None
    logger.info(
        f"Figures and report of study {PARAMS.study} are made from the frames kept in {folder}, with the configuration kept there."
        " Nothing is trained, reconstructed or evaluated."
    )
    return True


def check_images():
    """Images that are missing end the call here, where they are not built yet."""
    from lgmamba.cli.show import missing_images

    if told := missing_images(PARAMS):
        raise WorkflowError(told)


def typed(value):
    """--config hands the leaves of nested values over as text ('train={steps: 20}'); read them as YAML would."""
    if isinstance(value, dict):
        return {k: typed(v) for k, v in value.items()}
    if isinstance(value, list):
        return [typed(v) for v in value]
    return parse_text(value, f"--config: {value}") if isinstance(value, str) and value else value


def train_threads(wildcards):
    """Threads of a run's training: part of its result, hence of its configuration."""
    return RUNS[wildcards.run].train.cpu_threads


def local_images():
    """Files and folders on this machine that the images come from: where they are newer, they are decoded again."""
    source = PARAMS.data.source
    given = [getattr(source, name, None) or [] for name in ("path", "test_path")]
    patterns = [p for paths in given for p in ([paths] if isinstance(paths, str) else paths)]
    return [found for pattern in patterns for found in sorted(glob(pattern))]


def every_run(folder, names):
    """These files in `folder` of every run and seed."""
    return expand(f"{RUN}/{folder}/{{name}}", run=list(RUNS), seed=PARAMS.seeds, name=names)


def extended_runs(folder, names):
    """These files in `folder` of the runs that remedies are tried on, every seed; none where none are tried."""
    return files_of(PARAMS.extension.runs if PARAMS.extension is not None else [], folder, names)


def inspected_runs(folder, names):
    """The same of the runs that are looked into."""
    return files_of(PARAMS.inspect.runs if PARAMS.inspect is not None else [], folder, names)


def files_of(runs, folder, names):
    return [f"{LAYOUT.run_dir(run, seed)}/{folder}/{name}" for run in runs for seed in PARAMS.seeds for name in names]


def folder_of_output(wildcards, output):
    """What a stage is told to fill with the files that its rule names."""
    return dirname(output[0])


def final_files():
    """What `snakemake` without a target makes: the report, and its mark in the tracking store if there is one."""
    tracked = rules.track_report.output if PARAMS.tracking.kind == "mlflow" and not KEPT else []
    return [*rules.report.output, *tracked]


# `--use-conda` fails on a machine without conda, even for rules that name no environment. There, the current
# environment is the right one. The attribute is semi-private: a test runs this, and pyproject.toml bounds snakemake.
deployment = workflow.deployment_settings
with_conda = DeploymentMethod.CONDA in deployment.deployment_method
if with_conda and shutil.which("conda") is None:
    logger.warning("--use-conda, but no conda on PATH: every rule runs in the current environment.")
    deployment.deployment_method = set(deployment.deployment_method) - {DeploymentMethod.CONDA}
    with_conda = False

# Jobs find this checkout's package, and without conda the interpreter that runs Snakemake, also where .venv is not activated.
PREFIX = f"export PYTHONPATH={shlex.quote(workflow.basedir)}; "
if not with_conda:
    PREFIX += f"export PATH={shlex.quote(dirname(sys.executable))}:$PATH; "
shell.prefix(f"set -euo pipefail; {PREFIX}")

# No tool of this project reports its use to anyone, unless the person says otherwise.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")

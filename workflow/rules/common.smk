"""What comes before the rules: the configuration given by hand, what is current, and the environment of the jobs.

Reading this changes nothing anywhere, so that dry runs and calls in a second terminal disturb nobody. Files are written when
a call that runs something holds its lock (`onstart`, tracking.smk).
"""

import shlex
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from os.path import dirname

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

from lgmamba.config.base import ConfigError, unknown_key
from lgmamba.config.files import frozen_path, read_config, refuse_other_study, tracking_file
from lgmamba.config.study import Params, load_params
from lgmamba.config.text import parse as read_value  # `parse` itself is a name of Snakemake's
from lgmamba.jobs import Currency, drawn_jobs, jobs_of, keep_frames_job, track_report_job
from lgmamba.records import RECORD, record_path
from workflow.scripts import preloaded

OF_CALLS = ("preset", "frames")
"""Keys of --config that are none of params.yaml."""


def study_params():
    """params.yaml <- preset <- values given by hand (--config, --configfile), validated."""
    try:
        known = (*Params.model_fields, *OF_CALLS)
        for key, value in config.items():
            if key not in known and set(get_close_matches(key, known, n=1)) & set(OF_CALLS):
                raise WorkflowError(unknown_key(key, value, OF_CALLS))
        given = {key: typed(value) for key, value in config.items() if key != "frames"}
        params = load_params(
            params_file(),
            preset=given.pop("preset", None),
            overrides=given,
        )
        refuse_other_study(params)
        return params
    except ConfigError as e:
        raise WorkflowError(str(e)) from None


def params_file():
    """The params.yaml beside the Snakefile that was called; else that of the workflow."""
    beside = os.path.join(workflow.basedir, "params.yaml")
    return os.path.relpath(beside if os.path.isfile(beside) else os.path.join(HOME, "params.yaml"))


def frames_kept_asked_for():
    """Whether figures and report are to be made from the frames kept beside the report (--config frames=kept)."""
    given = config.get("frames")
    if given not in (None, "kept"):
        raise WorkflowError(f"frames: found {given!r}, expected: kept, or nothing")
    return given == "kept"


def frames_are_kept():
    """The same, once the kept frames are known to be those of this study."""
    if not frames_kept_asked_for():
        return False
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
    """Images that are missing, or whose classes cannot be told apart, end the call here, where they are not built yet."""
    from lgmamba.cli.show import image_problem

    if told := image_problem(PARAMS):
        raise WorkflowError(told)


def typed(value):
    """--config hands the leaves of nested values over as text ('train={steps: 20}'); read them as YAML would."""
    if isinstance(value, dict):
        return {k: typed(v) for k, v in value.items()}
    if isinstance(value, list):
        return [typed(v) for v in value]
    return read_value(value, f"--config: {value}") if isinstance(value, str) and value else value


def train_threads(wildcards):
    """Threads of a run's training: part of its result, hence of its configuration."""
    return RUNS[wildcards.run].train.cpu_threads


def initial_weights(wildcards):
    """The trained weights that a run starts from; none where it starts from random ones."""
    source = RUNS[wildcards.run].train.init_from
    if source is None:
        return []
    if source in RUNS:
        return f"{LAYOUT.run_dir(source, wildcards.seed)}/train/model.safetensors"
    return source.replace("{seed}", wildcards.seed)


def jobs_here():
    """Every job of the study, by stage and what tells its jobs apart; figures and report alone from frames that are kept."""
    if KEPT:
        frames = PARAMS.outputs.reports / "frames"
        study = frames / "study.json"
        return drawn_jobs(read_config(study, Params), frames, study, PARAMS.outputs.reports)
    return jobs_of(PARAMS) | {job.name: job for job in (track_report_job(PARAMS), keep_frames_job(PARAMS))}


def named(stage, wildcards):
    """The job of a stage that these wildcards mean."""
    return (
        stage,
        *(getattr(wildcards, name) for name in ("run", "seed", "stack", "figure") if hasattr(wildcards, name)),
    )


def words(stage):
    """For `params`: the command line of a job, as `lgmamba show --commands` prints it."""
    return lambda wildcards: list(JOBS[named(stage, wildcards)].words)


def why(stage):
    """For `params`: why a job runs, in a few words."""
    return lambda wildcards: currency().reason(named(stage, wildcards)) or "asked for"


def unless_current(stage):
    """For `input`: nothing, if the job's result is current. Else the job is made to run, after all that it follows from.

    Digests decide that, with and without .snakemake, whatever the time stamps: other inputs are `ancient` and Snakemake's own
    triggers are off. `dag.forcefiles` is what --forcerun fills; unlike that option, it asks for no job that the targets do not
    need. Snakemake does not look at it for jobs that follow from one that runs: those run if an input is not ancient, hence
    the records.
    """

    def look(wildcards):
        job = JOBS[named(stage, wildcards)]
        if currency().reason(job.name) is None:
            return []
        workflow.dag.forcefiles.add(record_of(job))
        return [record_of(JOBS[name]) for name in followed(job.name)]

    return look


@cache
def followed(name):
    """Every job that one follows from, directly or not."""
    return sorted({name for before in JOBS[name].after for name in (before, *followed(before))})


def record_of(job):
    return str(record_path(job.out, job.part))


@cache
def currency():
    """Which jobs are current; asked for the first time while the jobs are laid out, when there are settings to be had."""
    settings = workflow.dag_settings
    settings.rerun_triggers = frozenset()  # records decide; semi-private like `deployment` below, and tested like it
    return Currency(JOBS, lambda name: settings.forceall or name[0] in settings.forcerun)


def every_run(folder, names):
    """These files in `folder` of every run and seed."""
    return files_of(RUNS, folder, names)


def extended_runs(folder, names):
    """These files in `folder` of the runs that remedies are tried on, every seed; none where none are tried."""
    return files_of(PARAMS.remedy_evaluation.runs if PARAMS.remedy_evaluation is not None else [], folder, names)


def probed_runs(folder, names):
    """The same of the runs that are looked into."""
    return files_of(PARAMS.probes.runs if PARAMS.probes is not None else [], folder, names)


def files_of(runs, folder, names):
    homes = [LAYOUT.run_dir(run, seed) for run in runs for seed in PARAMS.seeds_of(run)]
    return [f"{home}/{folder}/{name}" for home in homes for name in names]


def final_files():
    """What `snakemake` without a target makes: the report, and its mark in the tracking store if there is one."""
    tracks = PARAMS.tracking.kind == "mlflow" and not KEPT and find_spec("mlflow") is not None
    tracked = rules.track_report.output if tracks else []
    return [*rules.report.output, *tracked]


def make_store():
    """Begin to make the tracking store, where there is none. What goes wrong it says itself; results do not depend on it."""
    if PARAMS.tracking.kind != "mlflow" or os.path.exists(PARAMS.tracking.store / "mlflow.db"):
        return
    config_file = str(frozen_path(LAYOUT, tracking_file(PARAMS)))
    process = subprocess.Popen(
        [sys.executable, "-m", "lgmamba", "track", "init", "--config", config_file],
        env=os.environ | ({"PYTHONPATH": HOME} if CHECKOUT else {}),
    )
    MAKING_STORE.append(process)


MAKING_STORE = []


def store_is_made():
    """Wait for it."""
    for process in MAKING_STORE:
        process.wait()


def none_from_the_future():
    """Give files dated later than now the time of now: Snakemake refuses results that seem older than what they are made from."""
    now = time.time()
    for path in {str(f) for job in workflow.dag.jobs for f in (*job.input, *job.output)}:
        if os.path.exists(path) and os.stat(path).st_mtime > now:
            os.utime(path, (now, now))


def serve_preloaded():
    """Start what has packages loaded for the jobs of this call, one process for each group of stages with several jobs.

    Only where jobs run on this machine, in this environment; otherwise they load their packages themselves, as one job would.
    """
    if sys.platform != "linux" or with_conda or not workflow.local_exec:
        return
    groups = Counter(preloaded.group_of(job.rule.name) for job in workflow.dag.needrun_jobs())
    names = [name for name, jobs in groups.items() if name is not None and jobs > 1]
    if not names:
        return
    try:
        SERVERS.extend(preloaded.start(names, HOME))
    except OSError as e:  # full, or not to be written
        logger.warning(f"Jobs load their packages themselves: no temporary folder ({e}).")
        return
    logger.info(f"Packages are loaded once for all jobs of a kind: {', '.join(sorted(names))}.")


SERVERS = []  # while this process lives, they do

# `--use-conda` fails on a machine without conda, even for rules that name no environment. There, the current
# environment is the right one. The attribute is semi-private: a test runs this, and pyproject.toml bounds snakemake.
deployment = workflow.deployment_settings
with_conda = DeploymentMethod.CONDA in deployment.deployment_method
no_conda = "no conda on PATH" if shutil.which("conda") is None else "the package is installed, not a checkout"
if with_conda and (shutil.which("conda") is None or not CHECKOUT):
    logger.warning(f"--use-conda, but {no_conda}: every rule runs in the current environment.")
    deployment.deployment_method = set(deployment.deployment_method) - {DeploymentMethod.CONDA}
    with_conda = False

# Jobs find a checkout's package, and without conda the interpreter that runs Snakemake, also where .venv is not activated.
PREFIX = f"export PYTHONPATH={shlex.quote(HOME)}; " if CHECKOUT else ""
if not with_conda:
    PREFIX += f"export PATH={shlex.quote(dirname(sys.executable))}:$PATH; "
# `python` in a rule is a process that has its packages loaded, where one is served. (Snakemake reads {{ as {.)
SERVED = f"${{{{{preloaded.FOLDER}:+-SE {shlex.quote(preloaded.__file__)}}}}}"
PREFIX += f'python() {{{{ command python {SERVED} "$@"; }}}}; '
shell.prefix(f"set -euo pipefail; {PREFIX}")

# No tool of this project reports its use to anyone, unless the person says otherwise.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")

"""Images, trainings, reconstructions of one or more studies on a machine without Snakemake, several at a time.

    python workflow/scripts/without_snakemake.py --study cifar10 --jobs 4 --minutes 20
    python workflow/scripts/without_snakemake.py --study cifar10:0,1 --study cifar10_budget:0 --jobs 8

A study is a preset, with the seeds wanted behind a colon, and the runs behind another (all, where nothing is said). Each
stage is the command that `lgmamba show --commands` prints; its output goes where Snakemake would put it, <results>/logs.
What is there already is not made again. Jobs are spread evenly over the GPUs; with more jobs than GPUs several share one, unless
LGMAMBA_JOBS_PER_GPU says how many may. When the time is up no job is started any more, and what runs is stopped: trainings go on from their
last checkpoint at the next call.
"""

import argparse
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from lgmamba.cli.show import stage_commands
from lgmamba.config.files import Layout, write_config_files
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params, load_params
from lgmamba.config.text import parse_mapping
from lgmamba.devices import gpus

MARKS = {
    "data": "manifest.json",
    "train": "train.json",
    "reconstruct": "probe.json",
    "remedy": "remedies.json",
    "inspect": "inspect.json",
}
"""Stage -> the last file that it writes into the folder given by --out."""


@dataclass
class Stages:
    """The commands of one training and what follows from it, in order."""

    study: Params
    lines: list[str]
    cost: float


def main() -> None:
    """Run everything; exit status 1 if a stage failed or the time was up."""
    options = parse()
    share_gpus(options.jobs, os.environ)
    begun = time.monotonic()
    end = begun + 60 * options.minutes
    jobs = [job for study in options.study for job in jobs_of(study, options)]
    first = {job.lines[0]: job.study for job in jobs if " data " in job.lines[0]}
    done = [run(study, line, end) for line, study in first.items()]
    chains = sorted((job for job in jobs if job.lines[0] not in first), key=lambda job: -job.cost)
    with ThreadPoolExecutor(options.jobs) as pool:
        done += pool.map(lambda job: all(run(job.study, line, end) for line in job.lines), chains)
    print(f"{sum(done)} of {len(done)} chains of stages done in {time.monotonic() - begun:.1f} s", flush=True)
    sys.exit(0 if all(done) else 1)


def share_gpus(jobs: int, environ: MutableMapping[str, str]) -> None:
    """So many jobs at a time find a GPU each, or a place on one, unless somebody said how many places each has."""
    if found := gpus(environ):
        environ.setdefault("LGMAMBA_JOBS_PER_GPU", str(math.ceil(jobs / len(found))))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--study", action="append", required=True, help="preset, preset:seed,seed or preset:seed,seed:run,run"
    )
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument("--override", help="further values as YAML")
    parser.add_argument("--jobs", type=int, default=1, help="stages at a time")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="time for all of it")
    parser.add_argument("--stages", default=",".join(MARKS), help="which stages")
    return parser.parse_args()


def jobs_of(asked: str, options: argparse.Namespace) -> list[Stages]:
    """The chains of a study: its images, then one chain for each run and seed, with its configuration files written."""
    preset, seeds, names = [*asked.split(":"), "", ""][:3]
    study = load_params(
        options.params, preset, parse_mapping(options.override, "--override") if options.override else None
    )
    write_config_files(study)
    layout, wanted = Layout(study.outputs.results), options.stages.split(",")
    lines = [line for line in stage_commands(study) if stage_of(line) in wanted]
    found = [Stages(study, [line], 0.0) for line in lines if stage_of(line) == "data"]
    for (name, seed), run_config in study.run_configs().items():
        home = f"{layout.run_dir(name, seed)}/"
        here = [line for line in lines if home in line]
        asked_for = (not seeds or str(seed) in seeds.split(",")) and (not names or name in names.split(","))
        if here and asked_for:
            found.append(Stages(study, here, patches_read(study, run_config)))
    return found


def patches_read(study: Params, run: RunConfig) -> float:
    """Roughly what a chain costs, for the longest to begin first: patches read, with gradients counted three times.

    A plain run is read once for all lengths, a length-adaptive one for each.
    """
    train, probe, lengths = run.train, study.probe, study.probe_steps(run)
    sequences = probe.images * probe.repeats * len(probe.orders)
    read = max(lengths) if run.model.adaptive is None else sum(lengths)
    return 3.0 * train.steps * train.batch_size * run.L0 + sequences * read


def stage_of(line: str) -> str:
    """`python -m lgmamba train --run ...` -> train."""
    return shlex.split(line)[3]


def run(study: Params, line: str, end: float) -> bool:
    """One stage; says whether its result is there."""
    words, stage = shlex.split(line), stage_of(line)
    out = Path(words[words.index("--out") + 1])
    if (out / MARKS[stage]).is_file():
        return True
    left = end - time.monotonic()
    if left <= 0:
        return False
    name = "/".join(out.parts[-3:-1])
    log = Path(study.outputs.results) / "logs" / stage / f"{name if stage != 'data' else 'images'}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with log.open("w") as sink:
        try:
            limit = None if left == float("inf") else left
            code = subprocess.run([sys.executable, *words[1:]], stdout=sink, stderr=sink, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            code = -1
    word = {0: "done", -1: "stopped, the time is up"}.get(code, f"FAILED, see {log}")
    print(f"{study.study} {stage} {name}: {word}, {time.monotonic() - begun:.1f} s", flush=True)
    if code not in (0, -1):
        print("".join(log.read_text().splitlines(keepends=True)[-3:]), flush=True)
    return code == 0


if __name__ == "__main__":
    main()

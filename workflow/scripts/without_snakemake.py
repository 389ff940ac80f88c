"""Images, trainings, reconstructions of one or more studies on a machine without Snakemake, several at a time.

    python workflow/scripts/without_snakemake.py --study cifar10 --jobs 4 --minutes 20
    python workflow/scripts/without_snakemake.py --study cifar10:0,1 --study cifar10_budget:0 --jobs 8

A study is a preset, with the seeds wanted behind a colon, and the runs behind another (all, where nothing is said). Each
stage is the command that `lgmamba show --commands` prints; its output goes where Snakemake would put it, <results>/logs.
What is current (the digests in its record say so, as for Snakemake) is not made again. A run that another process is training,
such as one that outlived an earlier call, is waited for. Jobs are spread evenly over the GPUs; with more jobs than GPUs several share one, unless
LGMAMBA_JOBS_PER_GPU says how many may. On GPUs, trainings of one shape run side by side as one (`lgmamba train-stack`), on each GPU a part
of them, where all of a part are asked for, and are read as soon as they are trained. What takes longest begins first. When the time is up, or
this script is told to end (Ctrl-C, SIGTERM), no job is started any more, and what runs is stopped: trainings go on from their last checkpoint
at the next call.
"""

import argparse
import heapq
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, MutableMapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from lgmamba.cli.show import image_problem
from lgmamba.config.base import ConfigError
from lgmamba.config.files import write_config_files
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params, load_params
from lgmamba.config.text import parse_mapping
from lgmamba.devices import gpus, wanted
from lgmamba.jobs import Currency, Job, jobs_of, stack_jobs
from workflow.scripts import preloaded

ROOT = Path(__file__).parents[2]
LOADED = ("-SE", preloaded.__file__)
"""Where a process is served that has a job's packages loaded, it is run there."""
STAGES = ("data", "train", "reconstruct", "remedy", "probes")


@dataclass
class Chain:
    """The jobs of one training and what follows from it, in order.

    Attributes:
        cost: for the longest to begin first.
        depth: trainings that must be there before it, one from the weights of the other.
    """

    study: Params
    jobs: list[Job]
    cost: float
    depth: int = 0


def main() -> None:
    """Run everything; exit status 1 if a stage failed or the time was up."""
    options = parse()
    share_gpus(options.jobs, os.environ)
    begun = time.monotonic()
    runner = Runner(begun + 60 * options.minutes)
    signal.signal(signal.SIGTERM, lambda *_: runner.stop())
    signal.signal(signal.SIGINT, lambda *_: runner.stop())
    chains = [chain for study in options.study for chain in chains_of(study, options)]
    first = {chain.jobs[0].words: chain for chain in chains if chain.jobs[0].stage == "data"}
    done = [runner.run(chain) for chain in first.values()]
    rest = [chain for chain in chains if chain.jobs[0].words not in first]
    for depth in sorted({chain.depth for chain in rest}):  # weights that a run starts from are trained before it
        here = [chain for chain in rest if chain.depth == depth]
        done += run_chains(runner.run, here, stack_chains(here), options.jobs)
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
    parser.add_argument("--stages", default=",".join(STAGES), help="which stages")
    options = parser.parse_args()
    check_named("--stages", options.stages, STAGES)
    return options


def check_named(where: str, asked: str, known: Iterable[str]) -> None:
    """End the script where something is asked for that there is not: nothing to do would look like all being done."""
    there = list(known)
    if strange := [name for name in asked.split(",") if asked and name not in there]:
        sys.exit(f"error: {where}: found {', '.join(map(repr, strange))}, expected some of {', '.join(there)}")


def chains_of(asked: str, options: argparse.Namespace) -> list[Chain]:
    """The chains of a study: its images, then one chain for each run and seed, with its configuration files written.

    A study that there is not, a seed or run that it has not, images that are missing, or whose classes cannot be told apart where they
    are to be built, end the script here.
    """
    preset, seeds, names = [*asked.split(":"), "", ""][:3]
    try:
        study = load_params(
            options.params, preset, parse_mapping(options.override, "--override") if options.override else None
        )
    except ConfigError as e:
        sys.exit(f"error: {e}")
    check_named(f"--study {asked}, seeds", seeds, sorted({str(seed) for _, seed in study.run_configs()}))
    check_named(f"--study {asked}, runs", names, study.runs_by_name())
    if "data" in options.stages.split(",") and (told := image_problem(study)):
        sys.exit(f"error: {told}")
    write_config_files(study)
    jobs = [job for job in jobs_of(study).values() if job.stage in STAGES and job.stage in options.stages.split(",")]
    found = [Chain(study, [job], 0.0) for job in jobs if job.stage == "data"]
    for (name, seed), run_config in study.run_configs().items():
        here = [job for job in jobs if job.name[1:] == (name, str(seed))]
        asked_for = (not seeds or str(seed) in seeds.split(",")) and (not names or name in names.split(","))
        if here and asked_for:
            found.append(Chain(study, here, patches_read(study, run_config), depth_of(study, name)))
    return found


def depth_of(study: Params, name: str) -> int:
    """How many runs a run's weights come from, one after the other."""
    source = study.runs_by_name()[name].train.init_from
    return 0 if source is None else 1 + depth_of(study, source)


def stack_chains(chains: list[Chain]) -> list[Chain]:
    """The trainings of these chains that have one shape, side by side, on a machine with a GPU; they come before the chains."""
    found = []
    for study in {id(chain.study): chain.study for chain in chains}.values():
        asked = {job.name for chain in chains if chain.study is study for job in chain.jobs}
        if wanted(study.device):
            stacks = (stack for stack in stack_jobs(study, len(gpus())) if asked.issuperset(stack.after))
            found += [Chain(study, [stack], 0.0) for stack in stacks]
    return found


def run_chains(run: Callable[[Chain], bool], chains: list[Chain], stacks: list[Chain], jobs: int) -> list[bool]:
    """Run all chains, so many at a time, the longest first; says of each, in the order of their ends, whether its results are there.

    A chain whose training is part of a stack follows that stack, which may leave its training to it, and is then the next: it is
    mostly reading, which keeps a GPU less busy than the trainings beside it. No stack waits for another.
    """
    stack_of = {(id(stack.study), name[1:]): stack for stack in stacks for name in stack.jobs[0].after}
    after: dict[int, list[Chain]] = {id(stack): [] for stack in stacks}
    numbered = itertools.count()  # of two of one cost, the one that was named first
    ready: list[tuple[float, int, Chain]] = []
    for chain in chains:
        stack = stack_of.get((id(chain.study), chain.jobs[0].name[1:]))
        if stack is None:
            heapq.heappush(ready, (-chain.cost, next(numbered), chain))
        else:
            after[id(stack)].append(chain)
    for stack in stacks:
        heapq.heappush(ready, (-sum(chain.cost for chain in after[id(stack)]), next(numbered), stack))
    running: dict[Future[bool], Chain] = {}
    done = []
    with ThreadPoolExecutor(jobs) as pool:
        while ready or running:
            while ready and len(running) < jobs:
                *_, chain = heapq.heappop(ready)
                running[pool.submit(run, chain)] = chain
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                chain, is_done = running.pop(future), future.result()
                if id(chain) not in after:
                    done.append(is_done)
                for follower in after.get(id(chain), []):
                    heapq.heappush(ready, (-math.inf, next(numbered), follower))
    return done


def patches_read(study: Params, run: RunConfig) -> float:
    """Roughly what a chain costs, for the longest to begin first: patches read, with gradients counted three times.

    A plain run is read once for all lengths, a length-adaptive one for each. What is read before a training sequence, for the
    state that it starts from, is read without gradients.
    """
    train, evaluation, lengths = run.train, study.evaluation, study.evaluation_steps(run)
    sequences = evaluation.images * evaluation.repeats * len(evaluation.orders)
    read = max(lengths) if run.model.adaptive is None else sum(lengths)
    return train.steps * (3.0 * train.batch_size * run.L0 + patches_passed(run)) + sequences * read


def patches_passed(run: RunConfig) -> float:
    """Patches read before the sequences of one training step, in the mean; 0 without `train.state_passing`.

    Their number n is log-uniform up to the longest M (`lgmamba.tasks.batch.passed_steps`), which imports torch and so is not
    asked. The mean is the sum over n = 1 .. M of P(N >= n) = 1 - log(n + 1) / log(M + 2), in one formula.
    """
    passing = run.train.state_passing
    if passing is None:
        return 0.0
    most = passing.longest(run.L0)
    return passing.sequences(run.train.batch_size) * (most - math.lgamma(most + 2) / math.log(most + 2))


class Runner:
    """Runs chains until the time is up or somebody says stop; then no child is left behind."""

    def __init__(self, end: float):
        self._end, self._stopped = end, False
        self._running: set[subprocess.Popen] = set()
        self._servers: list[subprocess.Popen] = []
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End what runs, as SIGTERM does, and begin nothing any more."""
        self._stopped = True
        for process in list(self._running):
            process.terminate()

    def run(self, chain: Chain) -> bool:
        """One chain; says whether all its results are there."""
        return all(self._job(chain.study, job) for job in chain.jobs)

    def _job(self, study: Params, job: Job) -> bool:
        currency = Currency(jobs_of(study))
        names = job.after if job.stage == "train-stack" else (job.name,)
        reason = next((reason for name in names if (reason := currency.reason(name))), None)
        if reason is None:
            return True
        log = Path(study.outputs.results) / "logs" / job.stage / f"{'/'.join(job.name[1:-1])}/seed{job.name[-1]}.log"
        if job.stage == "data":
            log = Path(study.outputs.results) / "logs/data.log"
        begun = time.monotonic()
        code = self._call(job, log)
        if code is None:
            return False
        what = {0: "done", STOPPED: "stopped"}.get(code, f"FAILED, see {log}")
        print(f"{study.study} {' '.join(job.name)} ({reason}): {what}, {time.monotonic() - begun:.1f} s", flush=True)
        if code not in (0, STOPPED):
            print("".join(log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-3:]), flush=True)
        return code == 0

    def _call(self, job: Job, log: Path) -> int | None:
        """Exit status of a job; None where there was no time to begin it."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:  # of two threads, none begins a job that `stop` does not see
            left = self._end - time.monotonic()
            if self._stopped or left <= 0:
                return None
            self._serve(job)
            with log.open("w", encoding="utf-8") as sink:
                process = subprocess.Popen([sys.executable, *LOADED, "-m", *job.words], stdout=sink, stderr=sink)
            self._running.add(process)
        if self._stopped:
            process.terminate()
        try:
            code = process.wait(None if left == float("inf") else left)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            code = STOPPED
        self._running.discard(process)
        return STOPPED if self._stopped and code else code

    def _serve(self, job: Job) -> None:
        """From the first job on whose packages take seconds to load, have them loaded once for all, unless somebody has or cannot."""
        group = preloaded.group_of(job.stage)
        if group is None or sys.platform != "linux" or preloaded.FOLDER in os.environ:
            return
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        try:
            self._servers = preloaded.start([group], path)
        except OSError:  # no temporary folder: each loads its own
            os.environ[preloaded.FOLDER] = ""


STOPPED = 128 + signal.SIGTERM


if __name__ == "__main__":
    main()

"""What a whole study took: its jobs on a GPU machine, from their logs; frames, claims, figures and report, measured here.

    python benchmarks/gpu_study.py [--preset cifar10] [--logs one_h100] [--out reports/benchmarks] [--readme docs/cost.md]

Reads the folder `<study>/<logs>` of reports/<study>/logs/gpu.tar.xz: `machine.txt`, and what
workflow/scripts/without_snakemake.py printed: `whole*.log`, call after call, and `alone.log`, of single jobs. A study that was
stopped and called again counts with all its calls, what was stopped and done again included. Every training and reconstruction of
the preset must be among them. Then, with the probes that came back (in <results>, see docs/workflow.md) and on this machine:

    lgmamba evaluate     probes -> frames with intervals and claims
    snakemake            frames in git -> figures and report

Writes gpu_study.{json,md} and brings the block `times:<study>` of docs/cost.md up to date.
"""

import argparse
import json
import os
import re
import sys
import tarfile
import tempfile
from pathlib import Path

from study import ROOT, clock, measured

from lgmamba.config.files import Layout
from lgmamba.config.study import Params, load_params
from lgmamba.files import to_json, write_atomic
from lgmamba.provenance import cpu_name, git_state
from lgmamba.report import update_block

DONE = re.compile(r"^(\S+) (\S+) (\S+): done, ([\d.]+) s$", re.MULTILINE)
"""`cifar10 train fixed_4/seed0: done, 12.3 s`."""
TOTAL = re.compile(r"chains of stages done in ([\d.]+) s$", re.MULTILINE)
STAGES = ("train", "reconstruct")


def read_logs(study: Params, folder: str) -> dict[str, str]:
    """Name -> text of the logs and of machine.txt."""
    path = ROOT / study.outputs.reports / "logs/gpu.tar.xz"
    inside = re.compile(re.escape(f"{study.study}/{folder}/") + r"(whole[^/]*\.log|alone\.log|machine\.txt)")
    with tarfile.open(path) as tar:
        inner = [match for name in sorted(tar.getnames()) if (match := inside.fullmatch(name))]
        texts = {match[1]: tar.extractfile(match[0]).read().decode() for match in inner}
    if missing := {"alone.log", "machine.txt"} - set(texts):
        raise SystemExit(f"{path}: {study.study}/{folder} lacks {' and '.join(sorted(missing))}")
    return texts


def on_the_gpu(study: Params, logs: list[str]) -> dict[str, float]:
    """Seconds of all calls, and of each stage summed over its jobs, each counted once.

    Raises:
        SystemExit: a call has no end, or a job of the study is in none of them.
    """
    took = {job: seconds for log in logs for job, seconds in done_in(study, log).items()}
    wanted = [(stage, f"{name}/seed{seed}") for name, seed in study.run_configs() for stage in STAGES]
    if missing := [" ".join(job) for job in wanted if job not in took]:
        raise SystemExit(f"{len(missing)} of {len(wanted)} jobs are in none of {len(logs)} logs, such as {missing[0]}")
    totals = [TOTAL.findall(log) for log in logs]
    if any(len(total) != 1 for total in totals):
        raise SystemExit(f"expected one line `... chains of stages done in ... s` in each log, found {totals}")
    sums = {stage: sum(took[job] for job in wanted if job[0] == stage) for stage in STAGES}
    return {"seconds": sum(float(total[0]) for total in totals), "jobs": len(wanted), "calls": len(logs)} | sums


def done_in(study: Params, log: str) -> dict[tuple[str, str], float]:
    """(stage, run and seed) -> seconds of what a log calls done."""
    return {(stage, name): float(seconds) for of, stage, name, seconds in DONE.findall(log) if of == study.study}


def alone(study: Params, log: str) -> dict[str, dict[str, float]]:
    """Run -> stage -> seconds of jobs that had the GPU to themselves."""
    took: dict[str, dict[str, float]] = {}
    for (stage, name), seconds in done_in(study, log).items():
        if stage in STAGES:
            took.setdefault(name.split("/")[0], {})[stage] = seconds
    return took


def here(study: Params) -> dict[str, dict[str, float]]:
    """Seconds and peak memory of what follows, with the probes under the study's results."""
    results = study.outputs.results
    with tempfile.TemporaryDirectory() as frames:
        command = f"-m lgmamba evaluate --study {Layout(results).study} --results {results} --out {frames}/frames"
        evaluate = measured([sys.executable, *command.split()], ROOT)
    command = f"-m snakemake --cores 2 --forceall --config preset={study.study} frames=kept"
    return {"evaluate": evaluate, "report": measured([sys.executable, *command.split()], ROOT)}


def text(result: dict) -> str:
    """The block of docs/cost.md, and with a title the page of the benchmark."""
    gpu, after, about = result["gpu"], result["here"], result["about"]
    total = gpu["seconds"] + sum(step["seconds"] for step in after.values())
    at_once = (gpu["train"] + gpu["reconstruct"]) / gpu["seconds"]
    jobs = f"{gpu['jobs'] // 2} trainings and reconstructions, {at_once:.1f} jobs at a time in the mean"
    single = [
        f"| `{name}` alone on that GPU: training + reconstructions | | {clock(took['train'])} + {clock(took['reconstruct'])} |"
        for name, took in result["alone"].items()
    ]
    lines = [
        f"| study `{about['study']}`, from Parquet files to the report | where | time |",
        "| --- | --- | ---: |",
        f"| images; {jobs} | one {about['gpu']} | {clock(gpu['seconds'])} |",
        f"| frames, intervals, claims | {about['cores']} cores of {about['cpu']} | {clock(after['evaluate']['seconds'])} |",
        f"| figures, report | the same cores | {clock(after['report']['seconds'])} |",
        f"| **all** | | **{clock(total)}** |",
        *single,
        "",
        f"By `benchmarks/gpu_study.py` from the logs of {gpu['calls']} calls on the GPU machine; what the first had to leave and the next did "
        f"again is included. Trainings at commit `{about['gpu_commit'][:7]}`, the rest at `{about['commit'][:7]}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cifar10")
    parser.add_argument("--logs", default="one_h100", help="folder in the archive of logs")
    parser.add_argument("--out", type=Path, default=ROOT / "reports/benchmarks")
    parser.add_argument("--readme", type=Path, default=ROOT / "docs/cost.md")
    args = parser.parse_args()
    study = load_params(ROOT / "params.yaml", args.preset)
    logs = read_logs(study, args.logs)
    machine = logs["machine.txt"]
    gpu_name, gpu_commit = (
        re.search(line, machine, re.MULTILINE)[1] for line in (r"^GPU 0: (.+)$", r"^([0-9a-f]{7,}) ")
    )
    about = {"study": study.study, "gpu": gpu_name, "gpu_commit": gpu_commit, "machine": machine.splitlines()}
    about |= {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "commit": git_state()["commit"]}
    gpu = on_the_gpu(study, [log for name, log in logs.items() if name.startswith("whole")])
    result = {"gpu": gpu, "alone": alone(study, logs["alone.log"]), "here": here(study), "about": about}
    write_atomic(args.out / "gpu_study.json", to_json(result))
    write_atomic(args.out / "gpu_study.md", f"# The study `{study.study}` on a GPU\n\n" + text(result))
    update_block(args.readme, f"times:{study.study}", text(result))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""What a whole study took: its jobs on a GPU machine, from their logs; frames, claims, figures and report.

    python benchmarks/gpu_study.py [--preset cifar10] [--logs one_gpu] [--out reports/benchmarks] [--readme docs/cost.md]

Reads the folder `<study>/<logs>` of reports/<study>/logs/gpu.tar.xz:

    machine.txt   with lines `GPU 0: <name>` and `<commit> <its message>`; if it says so, `16 CPU cores`, `NVIDIA MPS`, and
                  `evaluation: {precision: tf32}`, what was set besides the preset
    whole*.log    what workflow/scripts/without_snakemake.py printed, call after call, on one GPU
    alone.log     if there is one, the same of single jobs, one at a time
    finish.log    if there is one, with a line `evaluate: 31.2 s`: what frames took on the GPU machine; and perhaps with
                  `report: 9.1 s`, what figures and report did
    headline.json if there is one, that of the report made there: how far its numbers are from those of the report in git

A study that was stopped and called again counts with all its calls, what was stopped and done again included. Every training and
reconstruction of the preset must be among them, a training by its own line or by that of the trainings it ran side by side with.
Then, on this machine:

    lgmamba evaluate     probes -> frames with intervals and claims; with those that came back in <results> (docs/workflow.md), and
                         only where no finish.log says what it took
    snakemake            frames in git -> figures and report; only where no finish.log says what they took

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
from typing import NamedTuple

from study import ROOT, clock, measured

from lgmamba.config.files import Layout
from lgmamba.config.study import Params, load_params
from lgmamba.files import to_json, write_atomic
from lgmamba.jobs import JobName, stack_jobs
from lgmamba.provenance import cpu_name, git_state
from lgmamba.report import update_block

LINE = re.compile(r"^(\S+) ([^(\n]+) \(.*\): (done|stopped|FAILED, see .*), ([\d.]+) s$", re.MULTILINE)
"""`cifar10 train fixed_4 0 (not there yet): done, 12.3 s`."""
TOTAL = re.compile(r"chains of stages done in ([\d.]+) s$", re.MULTILINE)
FINISHED = re.compile(r"^(evaluate|report): ([\d.]+) s$", re.MULTILINE)
SERIAL = re.compile(r" \(UUID: [^)]*\)")
STAGES = ("train", "reconstruct")


class Ended(NamedTuple):
    """A job that a log says the end of."""

    study: str
    name: JobName
    end: str
    seconds: float


def read_logs(archive: Path, study: Params, folder: str) -> dict[str, str]:
    """Name -> text of the logs and of machine.txt."""
    inside = re.compile(
        re.escape(f"{study.study}/{folder}/") + r"(whole[^/]*\.log|alone\.log|finish\.log|machine\.txt|headline\.json)"
    )
    with tarfile.open(archive) as tar:
        inner = [match for name in sorted(tar.getnames()) if (match := inside.fullmatch(name))]
        texts = {match[1]: tar.extractfile(match[0]).read().decode() for match in inner}
    if "machine.txt" not in texts:
        raise SystemExit(f"{archive}: {study.study}/{folder} lacks machine.txt")
    return texts


def ended_in(log: str) -> list[Ended]:
    """The jobs of a log, in the order of their ends."""
    return [Ended(of, tuple(name.split()), end, float(seconds)) for of, name, end, seconds in LINE.findall(log)]


def on_the_gpu(study: Params, logs: dict[str, str]) -> dict[str, float]:
    """Seconds of all calls, of all jobs in them, and of each stage summed over its jobs, each counted once.

    Trainings side by side are one job. What was stopped is in the seconds of all jobs and in no stage.

    Args:
        logs: name -> text, one for each call.
    Raises:
        SystemExit: a call has no end or jobs of another study, trainings ran side by side otherwise than on one GPU, or a job of
            the study is in no log.
    """
    ended = {name: ended_in(log) for name, log in logs.items()}
    check_calls(study, logs, ended)
    lines = [line for found in ended.values() for line in found]
    took = {line.name: line.seconds for line in lines if line.end == "done"}
    stacks = {job.name: job.after for job in stack_jobs(study) if job.name in took}
    stacked = {name for held in stacks.values() for name in held}
    wanted = [(stage, name, str(seed)) for name, seed in study.run_configs() for stage in STAGES]
    if missing := [" ".join(name) for name in wanted if name not in took and name not in stacked]:
        raise SystemExit(f"{len(missing)} of {len(wanted)} jobs are in none of {len(logs)} logs, such as {missing[0]}")
    counted = {name: took[name] for name in (*stacks, *wanted) if name in took}
    return {
        "seconds": sum(float(TOTAL.findall(log)[0]) for log in logs.values()),
        "calls": len(logs),
        "all_jobs": sum(line.seconds for line in lines),
        "train": sum(seconds for (stage, *_), seconds in counted.items() if stage != "reconstruct"),
        "reconstruct": sum(seconds for (stage, *_), seconds in counted.items() if stage == "reconstruct"),
        "trainings": len(wanted) // len(STAGES),
        "side_by_side": len(stacked - set(took)),  # a training that has a line of its own was done alone after all
        "stacks": len(stacks),
    }


def check_calls(study: Params, logs: dict[str, str], ended: dict[str, list[Ended]]) -> None:
    """End the program where the time of a call is not that of the study on one GPU."""
    known = {job.name for job in stack_jobs(study)}
    for log, lines in ended.items():
        if len(TOTAL.findall(logs[log])) != 1:
            raise SystemExit(f"{log}: expected one line `... chains of stages done in ... s`")
        for line in lines:
            if line.study != study.study:
                raise SystemExit(f"{log}: found a job of study {line.study}, expected only those of {study.study}")
            if line.name[0] == "train-stack" and line.name not in known:
                raise SystemExit(
                    f"{log}: found {' '.join(line.name)}, which is no train-stack of {study.study} on one GPU"
                )


def alone(study: Params, log: str) -> dict[str, dict[str, float]]:
    """Run -> stage -> seconds of jobs that had the GPU to themselves.

    Raises:
        SystemExit: a run was only trained, or only read.
    """
    took: dict[str, dict[str, float]] = {}
    for of, (stage, *which), end, seconds in ended_in(log):
        if of == study.study and stage in STAGES and end == "done":
            took.setdefault(which[0], {})[stage] = seconds
    for name, stages in took.items():
        if missing := set(STAGES) - set(stages):
            raise SystemExit(f"alone.log: {name} has no line of {missing.pop()}")
    return took


def about_gpu(machine: str) -> dict[str, str]:
    """Name of the GPU, commit and processors, as machine.txt has them."""
    found = {}
    for name, line, told in [
        ("gpu", r"^GPU 0: (.+)$", "`GPU 0: <name>`"),
        ("gpu_commit", r"^([0-9a-f]{7,40}) ", "`<commit> <its message>`"),
    ]:
        match = re.search(line, machine, re.MULTILINE)
        if match is None:
            raise SystemExit(f"machine.txt: found no line {told}")
        found[name] = match[1]
    cores = re.search(r"^(\d+ CPU cores)", machine, re.MULTILINE)
    found["sharing"] = ", shared by NVIDIA MPS" if re.search(r"^NVIDIA MPS", machine, re.MULTILINE) else ""
    values = re.search(r"^(evaluation: .+)$", machine, re.MULTILINE)
    found["set"] = f"; with `{values[1]}`" if values else ""
    return found | {"gpu_cores": cores[1] if cores else "CPUs"}


def finished_there(log: str) -> dict[str, dict[str, float]]:
    """Seconds of frames, and of figures and report if they were made there, on the GPU machine, from finish.log."""
    found = {name: {"seconds": float(seconds)} for name, seconds in FINISHED.findall(log)}
    if "evaluate" not in found:
        raise SystemExit("finish.log: found no line like `evaluate: 31.2 s`")
    return found


def differences(there: dict, here: dict) -> dict[str, float]:
    """Where two headlines are furthest apart, dB: of a run's mean PSNR at L0, and beyond.

    Raises:
        SystemExit: they are not of the same runs and lengths.
    """
    psnr = [
        {(row["run"], ratio): v for row in found["psnr"] for ratio, v in row["psnr"].items() if v is not None}
        for found in (there, here)
    ]
    if set(psnr[0]) != set(psnr[1]):
        raise SystemExit("headline.json: other runs or lengths than in the report; was the preset another one?")
    apart = {at: abs(psnr[0][at] - psnr[1][at]) for at in psnr[0]}
    beyond = [gap for (_, ratio), gap in apart.items() if float(ratio) > 1]
    return {"L0": max(gap for (_, ratio), gap in apart.items() if float(ratio) == 1), "beyond": max(beyond)}


def frames_here(study: Params) -> dict[str, float]:
    """Seconds and peak memory of `lgmamba evaluate`, with the probes under the study's results."""
    results = study.outputs.results
    with tempfile.TemporaryDirectory() as frames:
        command = f"-m lgmamba evaluate --study {Layout(results).study} --results {results} --out {frames}/frames"
        return measured([sys.executable, *command.split()], ROOT)


def report_here(study: Params) -> dict[str, float]:
    """Seconds and peak memory of figures and report, from the frames in git."""
    command = f"-m snakemake --cores 2 --forceall --config preset={study.study} frames=kept"
    return measured([sys.executable, *command.split()], ROOT)


def text(result: dict) -> str:
    """The block of docs/cost.md, and with a title the page of the benchmark."""
    gpu, evaluate, report, about = result["gpu"], result["evaluate"], result["report"], result["about"]
    total = gpu["seconds"] + evaluate["seconds"] + report["seconds"]
    here, there = f"{about['cores']} cores of {about['cpu']}", f"{about['gpu_cores']} of the GPU machine"
    frames, figures = (there if step in about["finished_there"] else here for step in ("evaluate", "report"))
    calls = f"the logs of {gpu['calls']} calls" if gpu["calls"] > 1 else "the log of one call"
    again = "; what a call had to leave and the next did again is included" if gpu["calls"] > 1 else ""
    rest = "" if len(about["finished_there"]) == 2 else f", the rest of `{about['commit'][:7]}`"
    single = [
        f"| `{name}` alone on that GPU: training + reconstructions | | {clock(took['train'])} + {clock(took['reconstruct'])} |"
        for name, took in result["alone"].items()
    ]
    lines = [
        f"| study `{about['study']}`, from Parquet files to the report | where | time |",
        "| --- | --- | ---: |",
        f"| images; {jobs_text(gpu)}{about['set']} | one {about['gpu']}{about['sharing']} | {clock(gpu['seconds'])} |",
        f"| frames, intervals, claims | {frames} | {clock(evaluate['seconds'])} |",
        f"| figures, report | {'the same cores' if figures == frames else figures} | {clock(report['seconds'])} |",
        f"| **all** | | **{clock(total)}** |",
        *single,
        *differences_text(result["differences"]),
        "",
        f"By `benchmarks/gpu_study.py` from {calls} on the GPU machine{again}. What ran there is of commit `{about['gpu_commit'][:7]}`{rest}.",
    ]
    return "\n".join(lines) + "\n"


def report_headline(study: Params) -> dict:
    """The numbers of the report in git."""
    return json.loads((ROOT / study.outputs.reports / "headline.json").read_text())


def differences_text(found: dict[str, float] | None) -> list[str]:
    """How far the numbers that came out are from those of the report in git."""
    if found is None:
        return []
    return [
        "",
        f"The trainings are other ones than those of the report: the mean PSNR of a run differs by at most {found['L0']:.2f} dB at its L0, and by at "
        f"most {found['beyond']:.2f} dB beyond.",
    ]


def jobs_text(gpu: dict[str, float]) -> str:
    """How many trainings and reconstructions there were, and how many jobs at a time."""
    trainings, side_by_side, jobs = gpu["trainings"], gpu["side_by_side"], gpu["stacks"]
    what = f"{trainings} trainings and their reconstructions"
    if side_by_side:
        which = "" if side_by_side == trainings else f"{side_by_side} of them "
        what = f"{trainings} trainings, {which}side by side in {jobs} {'jobs' if jobs > 1 else 'job'}, and their reconstructions"
    return f"{what}; {gpu['all_jobs'] / gpu['seconds']:.1f} jobs at a time in the mean"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cifar10")
    parser.add_argument("--archive", type=Path, help="in place of reports/<study>/logs/gpu.tar.xz")
    parser.add_argument("--logs", default="one_gpu", help="folder in the archive of logs")
    parser.add_argument("--out", type=Path, default=ROOT / "reports/benchmarks")
    parser.add_argument("--readme", type=Path, default=ROOT / "docs/cost.md")
    args = parser.parse_args()
    study = load_params(ROOT / "params.yaml", args.preset)
    logs = read_logs(args.archive or ROOT / study.outputs.reports / "logs/gpu.tar.xz", study, args.logs)
    machine = SERIAL.sub("", logs["machine.txt"])  # which names one machine
    about = {"study": study.study, **about_gpu(machine), "machine": machine.splitlines()}
    about |= {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "commit": git_state()["commit"]}
    done = finished_there(logs["finish.log"]) if "finish.log" in logs else {}
    about["finished_there"] = list(done)
    result = {
        "gpu": on_the_gpu(study, {name: log for name, log in logs.items() if name.startswith("whole")}),
        "alone": alone(study, logs.get("alone.log", "")),
        "evaluate": done.get("evaluate") or frames_here(study),
        "report": done.get("report") or report_here(study),
        "differences": differences(json.loads(logs["headline.json"]), report_headline(study))
        if "headline.json" in logs
        else None,
        "about": about,
    }
    write_atomic(args.out / "gpu_study.json", to_json(result))
    write_atomic(args.out / "gpu_study.md", f"# The study `{study.study}` on a GPU\n\n" + text(result))
    update_block(args.readme, f"times:{study.study}", text(result))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""Times the two commands of the README in a fresh clone, and the default study with and without the fast scan.

    python benchmarks/study.py [--out reports/benchmarks] [--readme docs/cost.md] [--part both]

Writes study.{json,md} and brings the blocks `times`, `times:jobs` and `times:tests` of docs/cost.md up to date; rows of a part that is
not measured stay. Steps, in a clone of the current commit in a temporary folder, one after the other:

    fresh       make install   an empty folder `.venv`, versions of constraints.txt, packages from pip's own index and cache
                make run       the default study: images, trainings, reconstructions, claims, figures, report
                make run       again: nothing to do
                make test      every test
    compare     make run       the default study once more, in an environment that has run before
                make run       the same with model.scan_backend: reference, that is without the fast scan

The first study in a new environment also compiles every package's bytecode, so that only the last two compare.

Wall times by the clock; memory is the largest sum over the command and its children, looked at every half second. Pages that
processes share count once, where the system tells (Linux): jobs are copies of one process that has their packages loaded.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from xml.etree import ElementTree

import psutil
import yaml

from lgmamba.files import to_json, write_atomic
from lgmamba.provenance import cpu_name, git_state, versions
from lgmamba.report import update_block

ROOT = Path(__file__).parents[1]
ORDER = ("install", "run", "again", "test", "warm", "reference")


def measured(command: list[str], folder: Path, **variables: str) -> dict[str, float]:
    """Seconds and peak memory (MB) of a command; its output goes to this program's."""
    env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    env["PATH"] = os.pathsep.join(p for p in env["PATH"].split(os.pathsep) if not p.startswith(str(Path(sys.prefix))))
    env |= variables
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=env)
    peak = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
    watcher.start()
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    watcher.join()
    return {"seconds": time.monotonic() - begun, "peak_mb": peak[0] / 2**20}


def _watch(process: subprocess.Popen, peak: list[float]) -> None:
    top = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for p in [top, *top.children(recursive=True)]:
                info = p.memory_full_info()
                total += getattr(info, "pss", info.rss)
        except psutil.NoSuchProcess:
            pass
        peak[0] = max(peak[0], total)
        time.sleep(0.5)


def fresh(clone: Path) -> dict[str, dict]:
    """The README's commands in an empty clone, and what the jobs of the study took in it."""
    rows = {"install": {"what": "`make install`"} | measured(["make", "install"], clone)}
    rows["run"] = {"what": "`make run`, the default study"} | measured(["make", "run"], clone)
    rows["run"]["jobs"] = jobs_of_a_call(clone / "results/queried_digits/benchmarks")
    rows["again"] = {"what": "`make run` again"} | measured(["make", "run"], clone)
    told = clone.parent / "tests.xml"
    rows["test"] = {"what": "`make test`"} | measured(["make", "test"], clone, PYTEST_ADDOPTS=f"--junitxml={told}")
    rows["test"]["folders"] = tests_of_a_call(told)
    return rows


def compare(clone: Path) -> dict[str, dict]:
    """The default study from its images on, with and without the fast scan, in an environment that has run before."""
    measured(["make", "install"], clone)
    measured(["make", "smoke"], clone)
    rows = {"warm": {"what": "the default study in an environment that has run before"} | measured_study(clone, "auto")}
    what = "the same with `model.scan_backend: reference`"
    rows["reference"] = {"what": what} | measured_study(clone, "reference")
    return rows


def measured_study(clone: Path, backend: str) -> dict[str, float]:
    """The study of params.yaml with a scan backend, in results of its own."""
    subprocess.run(["git", "checkout", "--quiet", "params.yaml"], cwd=clone, check=True)
    params = yaml.safe_load((clone / "params.yaml").read_text())
    params["study"] = f"{params['study']}_{backend}"
    params["model"]["scan_backend"] = backend
    folder = f"results/{backend}"
    params["outputs"] = {"data": f"data/{backend}", "results": folder, "reports": f"{folder}/reports"}
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return measured(["make", "run"], clone)


def jobs_of_a_call(folder: Path) -> dict[str, list[float]]:
    """Stage -> seconds of each of its jobs, by Snakemake's own clock, the longest in sum first."""
    found: dict[str, list[float]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        stage = path.relative_to(folder).with_suffix("").parts[0]
        with path.open(encoding="utf-8", newline="") as file:
            found.setdefault(stage, []).extend(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))
    return dict(sorted(found.items(), key=lambda item: -sum(item[1])))


def tests_of_a_call(told: Path) -> dict[str, dict[str, float]]:
    """Folder of tests -> how many ran, seconds of all and of the longest, the longest in sum first.

    What tests share is made by the first that asks for it and counts as its.

    Args:
        told: pytest's account of a call, as `--junitxml` writes it.
    """
    took: dict[str, list[float]] = {}
    for test in ElementTree.parse(told).iter("testcase"):
        if test.find("skipped") is None:
            took.setdefault(test.attrib["classname"].split(".")[1], []).append(float(test.attrib["time"]))
    order = sorted(took, key=lambda folder: -sum(took[folder]))
    return {name: {"tests": len(took[name]), "seconds": sum(took[name]), "longest": max(took[name])} for name in order}


def tests_text(folders: dict[str, dict[str, float]]) -> str:
    """The block `times:tests` of docs/cost.md: folders that take a fiftieth of the time or more, and all others as one row."""
    least = sum(row["seconds"] for row in folders.values()) / 50
    rows = [
        f"| `tests/{name}` | {row['tests']} | {row['seconds']:.0f} | {row['longest']:.0f} |"
        for name, row in folders.items()
        if row["seconds"] >= least
    ]
    if rest := [row for row in folders.values() if row["seconds"] < least]:
        tests, seconds = (sum(row[key] for row in rest) for key in ("tests", "seconds"))
        rows.append(f"| all others | {tests} | {seconds:.0f} | {max(row['longest'] for row in rest):.0f} |")
    return (
        "\n".join(["| folder | tests | seconds, all | the longest, s |", "| --- | ---: | ---: | ---: |", *rows]) + "\n"
    )


def jobs_text(jobs: dict[str, list[float]], about: dict) -> str:
    """The block `times:jobs` of docs/cost.md."""
    rows = [
        f"| {stage} | {len(took)} | {statistics.mean(took):.1f} | {min(took):.1f} to {max(took):.1f} | {sum(took):.0f} |"
        for stage, took in jobs.items()
    ]
    lines = [
        "| stage | jobs | seconds a job, mean | shortest to longest | all, s |",
        "| --- | ---: | ---: | ---: | ---: |",
        *rows,
        "",
        f"As many jobs at a time as there are cores ({about['cores']}), so that the sum is more than the time of that `make run`.",
    ]
    return "\n".join(lines) + "\n"


def text(result: dict) -> str:
    """The block of docs/cost.md, and with a title the page of the benchmark."""
    rows = [
        f"| {row['what']} | {clock(row['seconds'])} | {row['peak_mb'] / 1024:.1f} GB |"
        for row in result["rows"].values()
    ]
    about = result["about"]
    lines = [
        "| in a fresh clone | time | peak memory |",
        "| --- | ---: | ---: |",
        *rows,
        "",
        f"Measured by `benchmarks/study.py` on {about['cores']} cores of {about['cpu']} at commit `{about['commit'][:10]}`.",
    ]
    return "\n".join(lines) + "\n"


def clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{int(seconds // 60)} min {seconds % 60:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "reports/benchmarks")
    parser.add_argument("--readme", type=Path, default=ROOT / "docs/cost.md")
    parser.add_argument("--part", choices=("fresh", "compare", "both"), default="both")
    args = parser.parse_args()
    stored = args.out / "study.json"
    rows = json.loads(stored.read_text())["rows"] if stored.is_file() else {}
    for part in (fresh, compare):
        if args.part in (part.__name__, "both"):
            with tempfile.TemporaryDirectory() as folder:
                clone = Path(folder) / "lgmamba"
                subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
                rows |= part(clone)
            keep(rows, args.out, args.readme)  # at once: the second part takes as long as the first


def keep(rows: dict[str, dict], out: Path, readme: Path) -> None:
    """study.{json,md} and the block of docs/cost.md."""
    rows = {name: rows[name] for name in ORDER if name in rows}
    about = {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "commit": git_state()["commit"]}
    result = {"rows": rows, "about": about | {"versions": versions()}}
    write_atomic(out / "study.json", to_json(result))
    write_atomic(out / "study.md", "# The two commands\n\n" + text(result))
    update_block(readme, "times", text(result))
    if jobs := rows.get("run", {}).get("jobs"):
        update_block(readme, "times:jobs", jobs_text(jobs, about))
    if folders := rows.get("test", {}).get("folders"):
        update_block(readme, "times:tests", tests_text(folders))
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

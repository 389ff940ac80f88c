"""What grows with the number of trainings of a study: planning, frames, figures and report, the tracking store, files.

    python benchmarks/scale.py [--runs 100 300 1000] [--out reports/benchmarks]
    python benchmarks/scale.py --runs 3000 --add      one more size, beside those measured before
    python benchmarks/scale.py --page           the page alone, from what was measured before

Writes scale.{json,md}. No model is trained: each training is a folder with made-up files in the layout of a real one and with valid
records (`tests/analysis/synthetic_study.py`), so that every stage after it does what it always does. A study has 20 runs; more
trainings are more seeds of each. Commands run one after the other, each in a process of its own with one thread, at the lowest
priority; seconds are processor time of the command and its children, which other work on the machine does not lengthen by much.
"""

import argparse
import datetime
import json
import math
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from lgmamba.config.files import write_config_files  # noqa: E402
from lgmamba.config.study import Params  # noqa: E402
from lgmamba.files import to_json, write_atomic  # noqa: E402
from lgmamba.jobs import Job, jobs_of  # noqa: E402
from lgmamba.provenance import cpu_name, git_state, versions  # noqa: E402
from lgmamba.records import find_record  # noqa: E402
from tests.analysis import synthetic_study  # noqa: E402
from tests.workflow.checkouts import copy_repository, environment  # noqa: E402

RUNS = 20
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")} | {"POLARS_MAX_THREADS": "1"}
ROWS = {
    "plan": "`snakemake -n`, nothing made yet, s",
    "current": "`snakemake -n`, every training and reconstruction current, s",
    "evaluate": "`lgmamba evaluate`, s",
    "evaluate_mb": "`lgmamba evaluate`, peak memory, MB",
    "figures": "`lgmamba figure`, all {figures} of them, s",
    "report": "`lgmamba report`, s",
    "track": "`lgmamba track import` into an empty store, s",
    "jobs": "jobs of the workflow",
    "files": "files below `results`",
    "results_mb": "size of `results`, MB",
    "frames_mb": "size of the frames, MB",
    "store_rows": "rows of metrics, parameters and tags in MLflow",
    "store_mb": "size of MLflow's database, MB",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 300, 1000], help=f"trainings, multiples of {RUNS}")
    parser.add_argument("--out", type=Path, default=ROOT / "reports/benchmarks")
    parser.add_argument("--add", action="store_true", help="to what was measured before")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    kept = options.out / "scale.json"
    if not options.page:
        os.nice(19)
        before = json.loads(kept.read_text(encoding="utf-8")) if options.add and kept.is_file() else {}
        found: dict[str, Any] = {"measured": before.get("measured", {})}
        for n in sorted(options.runs):
            with tempfile.TemporaryDirectory(prefix="lgmamba-scale-") as folder:
                found["measured"][str(n)] = measured(n, Path(folder))
            print(n, found["measured"][str(n)], flush=True)
        found |= {"commit": git_state()["commit"], "cpu": cpu_name(), "date": datetime.date.today().isoformat()}
        found["versions"] = versions(("snakemake", "polars", "mlflow")) | {"Python": platform.python_version()}
        write_atomic(kept, to_json(found))
        if len(found["measured"]) < 2:
            return  # no slope yet
    write_atomic(options.out / "scale.md", page(json.loads(kept.read_text(encoding="utf-8"))))


def values(trainings: int) -> dict[str, Any]:
    """A study of so many trainings."""
    if trainings % RUNS:
        raise SystemExit(f"--runs: found {trainings}, expected a multiple of {RUNS}")
    pair = {name: synthetic_study.DIGITS_RUNS[name] for name in ("uniform", "adaptive")}
    others = {f"uniform_lr{i:02d}": {"train": {"lr": 1e-4 * (i + 1)}} for i in range(RUNS - len(pair))}
    return synthetic_study.study_values(pair | others, seeds=list(range(trainings // RUNS)))


def measured(trainings: int, folder: Path) -> dict[str, float]:
    """Everything about a study of so many trainings, made in an empty folder."""
    checkout = copy_repository(folder / "checkout").path
    params = Params.model_validate(values(trainings))
    (checkout / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False))
    jobs = jobs_of(params)
    row = {"jobs": len(jobs), "plan": command(["snakemake", "--cores", "1", "--dry-run"], checkout)["s"]}
    with_trainings(params, jobs["data",], checkout)
    row["current"] = command(["snakemake", "--cores", "1", "--dry-run"], checkout)["s"]
    evaluated = stage(jobs["evaluate",], checkout)
    row |= {"evaluate": evaluated["s"], "evaluate_mb": evaluated["mb"]}
    figures = [job for job in jobs.values() if job.stage == "figure"]
    row |= {"n_figures": len(figures), "figures": sum(stage(job, checkout)["s"] for job in figures)}
    row["report"] = stage(jobs["report",], checkout)["s"]
    results = checkout / params.outputs.results
    row["track"] = tracked(results, checkout)
    row |= {"files": sum(p.is_file() for p in results.rglob("*")), "results_mb": size_mb(results)}
    row |= {"frames_mb": size_mb(results / "frames")}
    database = checkout / "mlflow/mlflow.db"
    with sqlite3.connect(database) as store:
        counts = [
            store.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("metrics", "params", "tags")
        ]
    return row | {"store_rows": sum(counts), "store_mb": database.stat().st_size / 2**20}


def with_trainings(params: Params, data: Job, checkout: Path) -> None:
    """Real images, and made-up results of every training and reconstruction, as if made from them."""
    first = checkout / "first"  # the stage reads a file that lies where the made-up study is to be written
    write_config_files(params, first)
    stage(data, first)
    (checkout / params.outputs.data).parent.mkdir()
    shutil.move(first / params.outputs.data, checkout / params.outputs.data)
    shutil.rmtree(first)
    record = find_record(checkout / params.outputs.data)
    assert record is not None
    synthetic_study.DATA_DIGEST = next(d for name, d in record.files.items() if name.endswith(".safetensors"))
    synthetic_study.make_study(checkout, params.model_dump(mode="json"))
    write_config_files(params, checkout)


def tracked(results: Path, checkout: Path) -> float:
    """Seconds of telling MLflow of every training."""
    folders = sorted(str(p.relative_to(checkout)) for p in results.glob("runs/*/*/train"))
    return command(["python", "-m", "lgmamba", "track", "import", "--store", "mlflow", *folders], checkout)["s"]


def stage(job: Job, checkout: Path) -> dict[str, float]:
    return command(["python", "-m", *job.words], checkout)


def command(words: list[str], folder: Path) -> dict[str, float]:
    """Processor seconds of a command and its children, and the largest memory of one process, MB."""
    folder.mkdir(parents=True, exist_ok=True)
    # In a process of its own, whose children are this command alone.
    code = (
        "import resource, subprocess, sys; r = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "u = resource.getrusage(resource.RUSAGE_CHILDREN); print(r, u.ru_utime + u.ru_stime, u.ru_maxrss)"
    )
    env = environment() | THREADS | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env=env, text=True, capture_output=True, check=True
    )
    status, seconds, peak = done.stdout.split()
    if status != "0":
        raise SystemExit(f"{' '.join(words[:8])} ended with {status}:\n{done.stderr[-3000:]}")
    return {"s": float(seconds), "mb": float(peak) / (1 if sys.platform == "linux" else 1024) / 1024}


def size_mb(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20


def page(found: dict[str, Any]) -> str:
    """scale.md."""
    sizes = sorted(map(int, found["measured"]))
    at = {n: found["measured"][str(n)] for n in sizes}
    head = [f"{n:,} trainings" for n in sizes]
    lines = [
        "# What grows with the number of trainings",
        "",
        f"Made by `benchmarks/scale.py` on {found['date']} on one core of {found['cpu']}, with "
        f"{', '.join(f'{name} {version}' for name, version in found['versions'].items())}, at commit `{found['commit'][:10]}`.",
        "No model is trained: results are made up, everything after them is real. Seconds are processor time.",
        "",
        f"| | {' | '.join(head)} | each further 1,000 | exponent | 10,000, extrapolated |",
        "|---|" + "---:|" * (len(sizes) + 3),
    ]
    for key, name in ROWS.items():
        row = [at[n][key] for n in sizes]
        slope = (row[-1] - row[-2]) / (sizes[-1] - sizes[-2])
        exponent = math.log(row[-1] / row[-2]) / math.log(sizes[-1] / sizes[-2])
        far = row[-1] + slope * (10_000 - sizes[-1])
        growth = [number(1000 * slope), f"{exponent:.2f}", number(far)] if slope > 0 else ["none", "", number(row[-1])]
        cells = [*map(number, row), *growth]
        lines.append(f"| {name.format(figures=at[sizes[-1]]['n_figures'])} | {' | '.join(cells)} |")
    lines += [
        "",
        "Slope and exponent are those between the last two sizes: exponent 1 is proportional growth, below 1 a part that does not grow. The last",
        "column goes on along that slope. `none`: differences are those between two measurements of the same.",
        "",
    ]
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}"


if __name__ == "__main__":
    main()

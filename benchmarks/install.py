"""What `pip install` of the wheel brings: packages, size and import time, into docs/install.md.

    python benchmarks/install.py                       # environments in a temporary folder
    python benchmarks/install.py --folder /tmp/envs    # kept there, and used again

Each row is an empty environment outside the checkout, with pip's own choice of versions within constraints.txt. The import time is
that of the core beside torch's own, the median of seven processes; it is processor time, so that a busy machine changes it little.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lgmamba.files import write_atomic
from lgmamba.provenance import cpu_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "install.md"
BEGIN, END = "<!-- generated:install -->", "<!-- /generated -->"
EXTRAS = {"torch": None, "core": "", "study": "[study]", "study_track": "[study,track]"}
TIMED = """
import time, torch
begun = time.process_time()
import lgmamba, {modules}
print(time.process_time() - begun)
"""
IMPORTS = {"scan": "lgmamba.scan", "core": "lgmamba.scan, lgmamba.model, lgmamba.remedies"}


def main() -> None:
    """Make the environments, measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where environments are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", scratch]
        subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(scratch).glob("*.whl")
        rows = {name: measured(folder / name, wheel, extras) for name, extras in EXTRAS.items()}
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    write_atomic(PAGE, f"{before}{BEGIN}\n{table(rows)}\n{END}{after}")
    print(table(rows))


def measured(path: Path, wheel: Path, extras: str | None) -> dict:
    """Packages (pip itself left out), megabytes and seconds of an environment, which is made if it is not there."""
    python = path / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, ROOT / "workflow/scripts/make_venv.py", path], check=True)
    wanted = "torch" if extras is None else f"lgmamba{extras} @ {wheel.as_uri()}"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "-c", ROOT / "constraints.txt", wanted], check=True)
    if extras is not None:  # of a kept environment, the wheel of today
        subprocess.run([*pip, "install", "--quiet", "--no-deps", "--force-reinstall", wheel], check=True)
    listed = json.loads(subprocess.run([*pip, "list", "--format=json"], capture_output=True, check=True).stdout)
    packages = {package["name"].lower() for package in listed} - {"pip", "lgmamba"}
    seconds = {} if extras is None else {name: timed(python, modules) for name, modules in IMPORTS.items()}
    return {"packages": packages, "mb": size(path), "seconds": seconds}


def timed(python: Path, modules: str) -> float:
    """Median processor time of importing these modules once torch is imported, seconds."""
    command = [python, "-c", TIMED.format(modules=modules)]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    runs = [subprocess.run(command, capture_output=True, check=True, env=env, cwd="/") for _ in range(8)]
    return statistics.median(float(run.stdout) for run in runs[1:])  # the first one compiles


def size(path: Path) -> float:
    """Megabytes of the files below a folder; compiled modules, which come with use, left out."""
    files = (f for f in path.rglob("*") if f.is_file() and not f.is_symlink() and "__pycache__" not in f.parts)
    return sum(f.stat().st_size for f in files) / 1e6


def table(rows: dict[str, dict]) -> str:
    """Markdown."""
    torchs = rows["torch"]["packages"]
    lines = [
        "| installed | packages beside torch's own | size (MB) | beside torch | `import lgmamba.scan` | with `lgmamba.model`, `lgmamba.remedies` |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        what = "`torch` alone" if EXTRAS[name] is None else f"`lgmamba{EXTRAS[name]}`"
        beside = f"{row['mb'] - rows['torch']['mb']:,.0f}" if row["seconds"] else ""
        times = [f"{row['seconds'][i]:.2f} s" for i in IMPORTS] if row["seconds"] else ["", ""]
        lines.append(
            f"| {what} | {len(row['packages'] - torchs) or ''} | {row['mb']:,.0f} | {beside} | {' | '.join(times)} |"
        )
    brought = ", ".join(sorted(rows["core"]["packages"] - torchs))
    where = f"{os.cpu_count()} cores of {cpu_name()}, Python {platform.python_version()}, CPU build of torch"
    return "\n".join([*lines, "", f"Measured on {where}. The core brings {brought}."])


if __name__ == "__main__":
    main()

"""Attacks the project with what people and machines do to it, and writes what came of it.

    python benchmarks/reliability.py configurations [--n 2000] [--seed 0] [--out reports/benchmarks]
    python benchmarks/reliability.py artefacts [--n 75] [--seed 0]
    python benchmarks/reliability.py page [--out reports/benchmarks]        the page alone, from what was measured before

Each part is a module beside this one, `reliability_<part>.py`, with `TITLE`, `add_arguments(parser)`, `attack(options) ->
result` and `section(result) -> Markdown`. Its result is kept in <out>/reliability/<part>.json; <out>/reliability.md is made of
all results that are there. Exit status 1 if the part found anything that must not be (`result["failures"]`).
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from lgmamba.files import to_json, write_atomic  # noqa: E402

PARTS = ("configurations", "artefacts")


def main() -> None:
    modules = {part: import_module(f"reliability_{part}") for part in PARTS}
    options = parse(modules)
    if options.part == "page":
        write_page(options.out, modules)
        return
    begun = time.perf_counter()
    result = modules[options.part].attack(options)
    about = {"seconds": round(time.perf_counter() - begun, 1), "commit": commit(), "python": platform.python_version()}
    write_atomic(options.out / "reliability" / f"{options.part}.json", to_json(about | result))
    write_page(options.out, modules)
    print(modules[options.part].section(about | result))
    sys.exit(1 if result["failures"] else 0)


def parse(modules: dict[str, ModuleType]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for name in (*modules, "page"):
        part = parts.add_parser(name)
        part.add_argument("--out", type=Path, default=ROOT / "reports/benchmarks")
        if name in modules:
            modules[name].add_arguments(part)
    return parser.parse_args()


def write_page(out: Path, modules: dict[str, ModuleType]) -> None:
    """reliability.md, from the results that are there."""
    sections = ["# What was done to it, and what came of it", "Made by `benchmarks/reliability.py`."]
    for part, module in modules.items():
        path = out / "reliability" / f"{part}.json"
        if path.is_file():
            result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            measured = f"Measured in {result['seconds']:,} s at commit `{result['commit']}`, Python {result['python']}."
            sections += [f"## {module.TITLE}", module.section(result), measured]
    write_atomic(out / "reliability.md", "\n\n".join(sections) + "\n")


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()

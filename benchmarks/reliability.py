"""Attacks the project with what people and machines do to it, and writes what came of it.

    python benchmarks/reliability.py configurations [--n 2000] [--seed 0] [--add] [--out reports/benchmarks]
    python benchmarks/reliability.py artefacts [--n 75] [--seed 0] [--add]
    python benchmarks/reliability.py kills [--path snakemake] [--n 100] [--minutes 8] [--add]
    python benchmarks/reliability.py join kills FILE... [--out ...]         adds what other calls, on other machines, kept with --out
    python benchmarks/reliability.py page [--out reports/benchmarks]        the page alone, from what was measured before

With --add an attack goes on where an earlier call ended, so that hours may be cut into minutes. Each part is a module beside this
one, `reliability_<part>.py`, with `TITLE`, `add_arguments(parser)`, `attack(options, before) -> result` and `section(result) ->
Markdown`; `before` is the earlier result, or {}. Results are kept in <out>/reliability/<part>.json; <out>/reliability.md is made of
all that are there. Exit status 1 if the part found anything that must not be (`result["failures"]`).
"""

import argparse
import datetime
import json
import operator
import platform
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from lgmamba.files import to_json, write_atomic  # noqa: E402
from lgmamba.provenance import cpu_name, git_state, versions  # noqa: E402

PARTS = ("configurations", "artefacts", "kills")
MERGED = {"seed": max, "kinds": max, "slowest_s": max}
"""How numbers of two portions become one; others are added."""


def main() -> None:
    modules = {part: import_module(f"reliability_{part}") for part in PARTS}
    options = parse(modules)
    if options.part == "page":
        write_page(options.out, modules)
        return
    if options.part == "join":
        for file in options.files:
            keep(options.out, options.attack, json.loads(file.read_text(encoding="utf-8")), add=True)
        write_page(options.out, modules)
        return
    before = read(options.out, options.part) if options.add else {}
    begun = time.perf_counter()
    found = modules[options.part].attack(options, before)
    found |= {
        "seconds": round(time.perf_counter() - begun),
        "commit": git_state()["commit"][:10],
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "versions": versions(("torch", "pydantic", "ruamel.yaml", "snakemake")) | {"Python": platform.python_version()},
    }
    result = keep(options.out, options.part, found, options.add)
    write_page(options.out, modules)
    print(modules[options.part].section(result))
    sys.exit(1 if result["failures"] else 0)


def read(out: Path, part: str) -> dict[str, Any]:
    """What is kept of an attack; {} where nothing is."""
    path = out / "reliability" / f"{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def keep(out: Path, part: str, found: dict[str, Any], add: bool) -> dict[str, Any]:
    """Write what an attack found, with what is kept of it, and give the two as one."""
    before = read(out, part) if add else {}
    result = merged(before, found) | {name: found[name] for name in ("commit", "date")}
    write_atomic(out / "reliability" / f"{part}.json", to_json(result))
    return result


def merged(before: Any, now: Any, key: str = "") -> Any:
    """One result of two portions: counts are added, lists joined, machines and versions named one after the other."""
    if isinstance(now, dict) and isinstance(before, dict):
        return {
            name: merged(before[name], now[name], name) if name in before and name in now else (before | now)[name]
            for name in before | now
        }
    if isinstance(now, list):
        return before + now
    if isinstance(now, str):  # a machine or a version
        return before if now in before.split(" and ") else f"{before} and {now}"
    return MERGED.get(key, operator.add)(before, now)


def parse(modules: dict[str, ModuleType]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for name in (*modules, "page"):
        part = parts.add_parser(name)
        part.add_argument("--out", type=Path, default=ROOT / "reports/benchmarks")
        if name in modules:
            part.add_argument("--add", action="store_true", help="to what was measured before")
            modules[name].add_arguments(part)
    part = parts.add_parser("join")
    part.add_argument("attack", choices=PARTS)
    part.add_argument("files", nargs="+", type=Path)
    part.add_argument("--out", type=Path, default=ROOT / "reports/benchmarks")
    return parser.parse_args()


def write_page(out: Path, modules: dict[str, ModuleType]) -> None:
    """reliability.md, from the results that are there."""
    sections = ["# What was done to it, and what came of it", "Made by `benchmarks/reliability.py`."]
    for part, module in modules.items():
        if result := read(out, part):
            used = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
            measured = (
                f"Measured on {result['date']} in {result['seconds'] / 60:,.0f} minutes on one core of {result['cpu']}, with {used}, "
                f"the last portion at commit `{result['commit']}`."
            )
            sections += [f"## {module.TITLE}", module.section(result), measured]
    write_atomic(out / "reliability.md", "\n\n".join(sections) + "\n")


if __name__ == "__main__":
    main()

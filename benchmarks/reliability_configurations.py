"""Configurations as nobody meant them: params.yaml, presets and values typed by hand, each with one to three changes.

A mutant is read as a study within LIMIT_S seconds of processor time, which no neighbour on the machine takes part in. It ends
in one message for a person, or it is accepted, and then everything that `lgmamba show` prints, the runs' configurations and a
round trip through JSON must work. Anything else is a failure.
"""

import argparse
import contextlib
import copy
import io
import json
import os
import random
import resource
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import lgmamba.config.study as study_module
import lgmamba.tradeoff.config as tradeoff_module
from lgmamba import jobs
from lgmamba.cli.show import show_table
from lgmamba.config.base import ConfigError, validate
from lgmamba.config.study import Params, load_params
from lgmamba.config.text import parse_mapping, read_yaml
from lgmamba.data.errors import DataError
from lgmamba.files import to_json
from lgmamba.tradeoff import jobs as tradeoff_jobs
from lgmamba.tradeoff.config import PRESETS as TRADEOFFS
from lgmamba.tradeoff.config import TradeoffParams, load_tradeoff

ROOT = Path(__file__).parents[1]
TITLE = "Configurations that nobody meant"
LIMIT_S = 5.0
MEMORY_BYTES = 16 << 30
OVERRIDE = "{train: {steps: 20, lr: 1e-3}, seeds: [0, 1], evaluation: {length_ratios: [2, 4]}, study: mine}"

CLEAN, ACCEPTED = "one message for a person", "accepted, and everything about it works"
TRACEBACK, SLOW, HALF = "a traceback", f"longer than {LIMIT_S:g} s", "accepted, and then something about it fails"
OUTCOMES = (CLEAN, ACCEPTED, HALF, TRACEBACK, SLOW)

ODD: list[Any] = [
    None,
    True,
    False,
    "",
    " ",
    "no",
    "0500",
    "2:30",
    "auto",
    "8",
    "nan",
    "ü🙂",
    "a\nb",
    "{run}",
    "../up",
    "x" * 300,
]
ODD += [-1, 0, 1, 2, 3, 7, 97, 1000, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400]
ODD += [-1.0, 0.0, 1e-300, 1e-9, 0.5, 0.97, 0.999999, 1.0, 1.5, 1e9, 1e300, float("inf"), float("nan")]
ODD += [[], {}, [[]], [None], [1, 1], {"kind": "fixed"}, {"kind": "nobody"}, {"": 1}, [0.1, 1.0], {4: 1}]

Tree = dict[str, Any]


@cache
def _unchanged(content: bytes) -> Tree:
    """A file that no mutant touched, read once: three quarters of the time went there."""
    return parse_mapping(content.decode(), "a file as it is")


def _read(path: Path) -> Tree:
    content = path.read_bytes()
    return copy.deepcopy(_unchanged(content)) if content in ORIGINALS else read_yaml(path)


study_module.read_yaml = tradeoff_module.read_yaml = _read
PRESETS = Path("workflow/presets")
BASES = [
    Path("params.yaml"),
    *(p.relative_to(ROOT) for where in (PRESETS, TRADEOFFS) for p in (ROOT / where).glob("*.yaml")),
]
ORIGINALS = {(ROOT / path).read_bytes() for path in BASES}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=int, default=2000, help="mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=10, help="failures printed in full")


def attack(options: argparse.Namespace, before: dict[str, Any]) -> dict[str, Any]:
    """Try every mutant; see `section` for the result."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGPROF, _too_slow)
    os.chdir(ROOT)
    works(load_params("params.yaml"))  # what is imported at first use belongs to no mutant
    outcomes: dict[str, Counter[str]] = {}
    failures, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for i in range(before.get("n", 0), before.get("n", 0) + options.n):
            rng = random.Random(f"{options.seed}/{i}")
            study = Mutant(Path(folder), rng)
            begun = time.process_time()
            outcome, words = tried(study)
            slowest = max(slowest, time.process_time() - begun)
            outcomes.setdefault(study.where, Counter())[outcome] += 1
            if outcome not in (CLEAN, ACCEPTED):
                failures.append({"mutant": i, "where": study.where, "changes": study.changes, "outcome": outcome})
                if len(failures) <= options.show:
                    print(
                        f"mutant {i} of seed {options.seed}, {study.where}, {study.changes}: {outcome}\n{words}\n",
                        flush=True,
                    )
    counts = {where: {name: found[name] for name in OUTCOMES} for where, found in sorted(outcomes.items())}
    return {
        "n": options.n,
        "seed": options.seed,
        "outcomes": counts,
        "slowest_s": round(slowest, 2),
        "failures": failures,
    }


def section(result: dict[str, Any]) -> str:
    """The table, and the failures."""
    lines = [
        f"{result['n']:,} mutants of params.yaml (the default study), of the presets, of the studies of classification against "
        f"reconstruction and of values typed by hand (seed {result['seed']}): one to three lines, characters, keys or values of each "
        "changed, left out, doubled, moved or replaced. Every accepted one was shown, its runs were written, and it was read again "
        f"from JSON. The slowest took {result['slowest_s']:g} s of processor time.",
        "",
        f"| what was changed | {' | '.join(OUTCOMES)} |",
        f"| --- |{' ---: |' * len(OUTCOMES)}",
    ]
    rows = result["outcomes"] | {"**all**": dict(sum((Counter(row) for row in result["outcomes"].values()), Counter()))}
    lines += [
        f"| {where} | {' | '.join(f'{row.get(name, 0):,}' for name in OUTCOMES)} |" for where, row in rows.items()
    ]
    lines += [
        f"\n* Mutant {f['mutant']} ({f['where']}; {'; '.join(f['changes'])}): {f['outcome']}"
        for f in result["failures"]
    ]
    return "\n".join(lines)


class Slow(BaseException):
    """No Exception, so that nothing on the way takes it for an error of its own."""


def _too_slow(*_: object) -> None:
    raise Slow


def tried(study: "Mutant") -> tuple[str, str]:
    """What becomes of a mutant, and the words of a failure."""
    params = None
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        params = study.load()
        works(params)
        return ACCEPTED, ""
    except ConfigError as e:
        told = bool(str(e).strip()) and len(str(e)) < 20_000
        return (CLEAN, "") if params is None and told else (HALF, traceback.format_exc())
    except DataError:  # the size of images that nobody has built
        return (CLEAN, "") if params is not None and params.data.size is None else (HALF, traceback.format_exc())
    except Slow:
        return SLOW, traceback.format_exc()
    except BaseException:
        return (TRACEBACK if params is None else HALF), traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def works(params: Params | TradeoffParams) -> None:
    """All that can be known of a study without running it."""
    if isinstance(params, TradeoffParams):
        assert all(job.line for job in tradeoff_jobs.jobs_of(params).values())
        for stack in params.stacks().values():
            to_json(stack.model_dump(mode="json")).encode()
        assert validate(TradeoffParams, json.loads(params.model_dump_json()), "JSON") == params
        return
    with contextlib.redirect_stdout(io.StringIO()):
        show_table(params, None)
    assert all(job.line for job in jobs.jobs_of(params).values())
    for run in params.run_configs().values():
        to_json(run.model_dump(mode="json")).encode()
        params.evaluation_steps(run)
        _ = [section.steps(run.L0) for section in (params.remedy_evaluation, params.probes) if section is not None]
    assert validate(Params, json.loads(params.model_dump_json()), "JSON") == params


class Mutant:
    """One configuration with changes, in a folder of its own.

    Attributes:
        where: what was changed: params.yaml, a preset, or values typed by hand; and whether as text or as a tree.
        changes: what was done, in words.
    """

    def __init__(self, folder: Path, rng: random.Random):
        self.root, self.params = folder, folder / "params.yaml"
        for path in BASES:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes((ROOT / path).read_bytes())
        target = rng.choice(["params.yaml", "params.yaml", "a preset", "a preset", "a trade-off", "by hand"])
        self.presets = folder / (TRADEOFFS if target == "a trade-off" else PRESETS)
        names = sorted(path.stem for path in self.presets.glob("*.yaml"))
        self.preset = rng.choice(names if target in ("a preset", "a trade-off") else [None, *names])
        self.override: str | None = None
        path = self.params if target == "params.yaml" else self.presets / f"{self.preset}.yaml"
        text = OVERRIDE if target == "by hand" else path.read_text(encoding="utf-8")
        as_tree = rng.random() < 0.7
        content, self.changes = (mutated_tree if as_tree else mutated_text)(text, rng)
        self.where = f"{target}, {'values and keys' if as_tree else 'text'}"
        if target == "by hand":
            self.override = content.decode(errors="replace")
        else:
            path.write_bytes(content)

    def load(self) -> Params | TradeoffParams:
        """Read it as `lgmamba show` and the workflow do."""
        if self.presets.name == TRADEOFFS.name:
            return load_tradeoff(str(self.preset), None, self.root)
        given = None if self.override is None else parse_mapping(self.override, "--override")
        return load_params(self.params, self.preset, given)


def mutated_tree(text: str, rng: random.Random) -> tuple[bytes, list[str]]:
    """One to three changes of keys and values."""
    tree, changes = yaml.safe_load(text), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(_places(tree))
        if places:
            changes.append(rng.choice(TREE_CHANGES)(tree, *rng.choice(places), rng))
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode(), changes


def _places(tree: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """(mapping or list, key, dotted path) of every value."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield tree, key, f"{path}.{key}"[:120].lstrip(".")
        yield from _places(value, f"{path}.{key}")


def _replace(tree: Tree, parent: Any, key: Any, path: str, rng: random.Random) -> str:
    parent[key] = copy.deepcopy(rng.choice(ODD))
    return f"{path} = {str(parent[key])[:40]!r}"


def _scale(tree: Tree, parent: Any, key: Any, path: str, rng: random.Random) -> str:
    if isinstance(parent[key], bool) or not isinstance(parent[key], int | float):
        return _replace(tree, parent, key, path, rng)
    factor = rng.choice([-1, 0, 0.1, 0.5, 2, 10, 1000, 10**6, 10**9])
    parent[key] = type(parent[key])(parent[key] * factor) if rng.random() < 0.7 else parent[key] * factor
    return f"{path} = {parent[key]!r:.40}"


def _remove(tree: Tree, parent: Any, key: Any, path: str, rng: random.Random) -> str:
    del parent[key]
    return f"{path} removed"


def _rename(tree: Tree, parent: Any, key: Any, path: str, rng: random.Random) -> str:
    if isinstance(parent, list):
        return _remove(tree, parent, key, path, rng)
    other = rng.choice([str(key)[:-1] + "_", str(key).upper(), "no", "x" * 80, 7, f"{key} ", "kind"])
    parent[other] = parent.pop(key)
    return f"{path} renamed to {other!r:.40}"


def _swap(tree: Tree, parent: Any, key: Any, path: str, rng: random.Random) -> str:
    _, _, other_path = other = rng.choice(list(_places(tree)))
    parent[key] = copy.deepcopy(other[0][other[1]])
    return f"{path} = what {other_path} is"


def _double(tree: Tree, parent: Any, key: Any, path: str, rng: random.Random) -> str:
    value = parent[key]
    parent[key] = [*value, *copy.deepcopy(value)] if isinstance(value, list) else [value, copy.deepcopy(value)]
    return f"{path} doubled"


TREE_CHANGES: list[Callable[..., str]] = [
    _replace,
    _replace,
    _replace,
    _scale,
    _scale,
    _remove,
    _rename,
    _swap,
    _double,
]


def mutated_text(text: str, rng: random.Random) -> tuple[bytes, list[str]]:
    """One to three changes of lines and characters, or another encoding."""
    lines, changes = text.splitlines(), []
    for _ in range(rng.choice([1, 1, 2, 3])):
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        change = rng.choice(["leave out", "double", "swap", "indent", "cut", "insert", "token"])
        changes.append(f"{change} at line {i + 1}")
        if change == "leave out" and len(lines) > 1:
            del lines[i]
        elif change == "double":
            lines.insert(i, lines[i])
        elif change == "swap":
            lines[i], lines[j] = lines[j], lines[i]
        elif change == "indent":
            lines[i] = rng.choice([" ", "  ", "\t", "    " * 10]) + lines[i]
        elif change == "cut":
            lines[i] = lines[i][: rng.randrange(len(lines[i]) + 1)]
        elif change == "insert":
            at = rng.randrange(len(lines[i]) + 1)
            lines[i] = lines[i][:at] + rng.choice(SNIPPETS) + lines[i][at:]
        else:
            words = lines[i].split(" ")
            words[rng.randrange(len(words))] = rng.choice([str(odd)[:400] for odd in ODD])
            lines[i] = " ".join(words)
    encoding = rng.choice(["utf-8"] * 8 + ["utf-16", "utf-16-le", "latin-1", "utf-8-sig"])
    changes += [] if encoding == "utf-8" else [encoding]
    return ("\n".join(lines) + "\n").encode(encoding, errors="replace"), changes


SNIPPETS = [
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "#",
    "&a ",
    "*a ",
    "!!int ",
    "!!python/name:os.system ",
    "? ",
    "| ",
    "> ",
    '"',
    "'",
    "%",
    "@",
]
SNIPPETS += [
    "\0",
    "\x85",
    "\u2028",
    "é",
    "🙂",
    "\ufeff",
    "---\n",
    "...\n",
    "<<: ",
    "~",
    "9" * 5000,
    "[" * 200,
    "{a: " * 200,
    "0x" + "f" * 400,
]

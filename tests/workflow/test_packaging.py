"""Versions are written down once and agree wherever they are repeated."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import yaml

from lgmamba.extras import EXTRAS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        normal(name): version
        for name, version in (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    }


def requirements(*groups: str) -> list[str]:
    """Names of what is installed with these extras."""
    return sorted({*names_of(PROJECT["dependencies"]), *of_extras(*groups)})


def of_extras(*groups: str) -> set[str]:
    """Names of what these extras bring, themselves and through one another."""
    listed = [r for group in groups for r in PROJECT["optional-dependencies"][group]]
    own = [group for r in listed if (ours := re.match(r"lgmamba\[(.*)\]", r)) for group in ours[1].split(",")]
    return names_of(r for r in listed if not r.startswith("lgmamba[")) | (of_extras(*own) if own else set())


def names_of(listed: Iterable[str]) -> set[str]:
    return {normal(re.match(r"[A-Za-z0-9_.-]+", name)[0]) for name in listed}


def test_every_requirement_is_pinned():
    assert not [name for name in requirements("dev") if name not in pins()]


def test_pins_are_public_versions():
    assert not [v for v in pins().values() if "+" in v]  # torch==2.13.0 fits the CPU build and the CUDA build


def test_conda_environment_has_the_same_versions():
    env = yaml.safe_load((ROOT / "workflow" / "envs" / "lgmamba.yaml").read_text())
    listed = dict(r.split("==") for r in env["dependencies"][-1]["pip"])
    assert {normal(k): v for k, v in listed.items()} == {name: pins()[name] for name in requirements("study", "track")}


def test_snakefile_fits_on_a_page():
    lines = (ROOT / "Snakefile").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'workflow.include("workflow/Snakefile", overwrite_default_target=True)'  # the catalogue looks below workflow/
    ]
    assert len((ROOT / "workflow/Snakefile").read_text().splitlines()) <= 45


def test_every_package_of_an_extra_is_known_by_the_name_under_which_it_is_imported():
    distributions = {"PIL": "pillow", "sklearn": "scikit-learn", "cuda": "cuda-bindings", "fla": "fla-core"}
    for extra, packages in EXTRAS.items():
        assert {normal(distributions.get(name, name)) for name in packages} == of_extras(extra)
    assert set(PROJECT["optional-dependencies"]) == EXTRAS.keys() | {"docs", "dev"}

"""Versions are written down once and agree wherever they are repeated."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        normal(name): version
        for name, version in (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    }


def requirements(*groups: str) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["dependencies"] + [r for g in groups for r in project["optional-dependencies"][g]]
    return [normal(re.match(r"[A-Za-z0-9_.-]+", r)[0]) for r in listed]


def test_every_requirement_is_pinned():
    assert not [name for name in requirements("dev") if name not in pins()]


def test_pins_are_public_versions():
    assert not [v for v in pins().values() if "+" in v]  # torch==2.13.0 fits the CPU build and the CUDA build


def test_conda_environment_has_the_same_versions():
    env = yaml.safe_load((ROOT / "workflow" / "envs" / "lgmamba.yaml").read_text())
    listed = dict(r.split("==") for r in env["dependencies"][-1]["pip"])
    assert {normal(k): v for k, v in listed.items()} == {name: pins()[name] for name in requirements()}


def test_every_figure_has_a_caption_for_snakemakes_report():
    from lgmamba.analysis import FIGURE_CONDITIONS

    captions = (ROOT / "workflow" / "report" / "figure.rst").read_text()
    assert re.findall(r'^"(\w+)":$', captions, re.MULTILINE) == list(FIGURE_CONDITIONS)


def test_snakefile_fits_on_a_page():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 40

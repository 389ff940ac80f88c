"""`lgmamba new`: a minimal study of one's own, which runs as it is: in a checkout, or in any folder where the package is installed."""

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from lgmamba.config.base import ConfigError, validate
from lgmamba.config.overlays import overlaid, overlays
from lgmamba.config.study import Params
from lgmamba.config.text import parse_mapping, read_yaml
from lgmamba.files import write_atomic, write_if_changed
from lgmamba.shipped import workflow_home

TEMPLATE = """\
# Study {name}: what differs from preset digits (workflow/presets/digits.yaml) and params.yaml, where every key stands with a
# comment. Change what you like; what is not said here is as it is there.
#
#   lgmamba show --preset {path}                       what it will do, and what that costs
#   snakemake --cores 4 --config {preset}         does it; then open reports/{name}/report.html
extends: digits            # images read cell by cell and drawn as a whole
study: {name}
{data}
task:
  patch_size: {patch}            # pixels a side; {size} x {size} pixels make {cells} cells
  lengths: {{kind: uniform, low: 1, high: {cells}}}  # patches; the longest length is the run's L0

runs:                      # one entry = one model to train
  fixed_{cells}: {{task: {{lengths: {{kind: fixed, value: {cells}}}}}}}
  uniform_{cells}: {{}}
  uniform_{short}: {{task: {{lengths: {{kind: uniform, low: 1, high: {short}}}}}}}
seeds: [0]                 # with two or more, intervals say how much trainings differ

evaluation: {{images: 128, repeats: 1, orders: [permutation], max_length_ratio: 8, length_ratios: [1.5, 2, 4, 8], batch_images: 32}}
claims: {{comparisons: [], far_length_ratios: [2, 4, 8]}}  # or [{{generalist: a run, adaptive: one that is told the length}}]
remedies: []               # what is tried beyond L0; needs `remedy_evaluation`
remedy_evaluation: null
probes: null              # what trained models are looked into for
"""
IMAGES = """
data:
  source: {source}
  image_size: {size}           # pixels; images of another size are scaled until they cover it, then cut
  fit: resize_crop
  channels: rgb
  on_bad_image: skip       # an image that cannot be read is left out and listed in the manifest
"""
SNAKEFILE = """\
from lgmamba.shipped import workflow_home

# The workflow of the lgmamba that is installed where snakemake is. (`include:` would not take over what is made by default.)
workflow.include(str(workflow_home() / "workflow" / "Snakefile"), overwrite_default_target=True)
"""
PROFILE = "profiles/default/config.yaml"
SIZE, PATCH = 32, 4
DIGITS_SIZE, DIGITS_PATCH = 8, 2


def new(
    name: Annotated[str, typer.Argument(help="name of the study: letters, digits and _")],
    folder: Annotated[
        Path | None,
        typer.Argument(help="folder of images, with or without class folders; by default scikit-learn's digits"),
    ] = None,
    params: Annotated[
        Path | None,
        typer.Option(
            help="params.yaml that the study is laid over; by default the one here, written where there is none"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="file to write; studies/NAME.yaml by default")] = None,
) -> None:
    """Write a minimal study of your own: three plain runs on your images."""
    path = out or Path("studies") / f"{name}.yaml"
    if path.exists():
        raise ConfigError(f"{path} is there already; name another study, or another file with --out")
    text, found = study_text(name, folder, path)
    around = surroundings() if params is None else {}
    values = (
        read_yaml(params or Path("params.yaml")) if not around else parse_mapping(around["params.yaml"], "params.yaml")
    )
    own = parse_mapping(text, str(path))
    for _, overlay in overlays(own.pop("extends"), (params or Path("params.yaml")).parent):
        values = overlaid(values, overlay)
    validate(Params, overlaid(values, own), str(path))  # before anything is written
    written = [str(path), *(name for name, content in around.items() if write_if_changed(name, content))]
    write_atomic(path, text)
    shown = f"lgmamba show --preset {shlex.quote(str(path))}"
    typer.echo(f"{found}\nwrote {', '.join(written)}; next:\n  {shown}\n  {how_to_run(path)}")


def how_to_run(path: Path) -> str:
    """The command that runs a study here: Snakemake's, or where there is none the jobs one after the other."""
    if find_spec("snakemake") is None:
        return f"lgmamba show --preset {shlex.quote(str(path))} --write --commands | sh -e"
    return f"snakemake --cores 4 --config {shlex.quote(f'preset={path}')}"


def surroundings() -> dict[str, str]:
    """File -> content of what a study needs around it: values, profile and a Snakefile; nothing where params.yaml is there.

    Raises:
        ConfigError: another file of that name is there.
    """
    if Path("params.yaml").exists():
        return {}
    home = workflow_home()
    contents = {name: (home / name).read_text(encoding="utf-8") for name in ("params.yaml", PROFILE)}
    contents["Snakefile"] = SNAKEFILE
    for name, content in contents.items():
        if Path(name).exists() and not (Path(name).is_file() and Path(name).read_bytes() == content.encode()):
            raise ConfigError(f"{name}: found a file that is not this workflow's; go to a folder of the studies' own")
    return contents


def study_text(name: str, folder: Path | None, path: Path) -> tuple[str, str]:
    """The study's YAML, and a line about its images.

    Raises:
        DataError: no folder of images.
    """
    if folder is None:
        size, patch, data, found = DIGITS_SIZE, DIGITS_PATCH, "", "1,797 handwritten digits, 8 x 8 pixels, grey"
    else:
        from lgmamba.data.sources.folder_listing import list_images

        size, patch, found = SIZE, PATCH, list_images(folder.expanduser()).summary()
        source = f"{{kind: image_folder, path: {_quoted(str(folder))}}}"
        data = IMAGES.format(source=source, size=size)
    cells = (size // patch) ** 2
    sizes = {"patch": patch, "size": size, "cells": cells, "short": cells // 4}
    words = {"path": shlex.quote(str(path)), "preset": shlex.quote(f"preset={path}")}
    return TEMPLATE.format(name=name, data=data, **words, **sizes), found


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)  # a JSON text is a YAML text

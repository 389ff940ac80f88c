"""The step explorer: one page on which a person moves along the steps and sees what each run has kept of an image.

It is one file that asks for nothing: pictures, numbers, style and scripts are inside, in the order in which a page that opens needs
them. templates/ holds the page and uPlot for its
curves (MIT, uplot.LICENSE.txt). Everything that a study says of itself goes in as data, never as code: values as JSON, texts
through templates that escape, and scripts are allowed by their digest alone.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lgmamba.analysis.panel import Panel, read_panel
from lgmamba.analysis.shown import drawn_runs
from lgmamba.config.study import Params
from lgmamba.explorer.data import data_address, explorer_data, moments, nearest, sheets

TEMPLATES = Path(__file__).parent / "templates"
FIRST_SCRIPTS = ("state.js", "words.js", "pictures.js", "choices.js", "page.js")
"""What the first pictures need, in the order in which they need each other."""
LATER_SCRIPTS = ("uplot.min.js", "curves.js", "maps.js")
"""What stands below them on the page, and further down in the file."""
STYLES = ("uplot.min.css", "explorer.css")


def explorer_page(params: Params, frames: Path) -> str:
    """The page of a study, HTML.

    Args:
        params: the study.
        frames: folder written by `evaluate`, or kept from one.
    """
    data = explorer_data(params, frames)
    panel = read_panel(frames / "panel.safetensors") if params.task.IMAGES else None
    first, later = ({}, {}) if panel is None else sheets(panel, [run["name"] for run in data["runs"]], data["shown"])
    scripts = [
        "\n".join(map(_template, FIRST_SCRIPTS)),
        "\n".join([f"/* uPlot: {_template('uplot.LICENSE.txt')}*/", *map(_template, LATER_SCRIPTS)]),
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("explorer.html.jinja").render(
        data=data,
        levels={level for run in data["runs"] for of_order in run["levels"].values() for level in of_order},
        still=still_table(data, panel),
        json=Markup(inside_script(data)),
        first={"sheets": first, "script": Markup(scripts[0])},
        later={"sheets": later, "script": Markup(scripts[1])},
        digests=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
        css=Markup("\n".join(_template(name) for name in STYLES)),
    )


def link(params: Params, runs: list[str], step: float, remedy: str | None = None, order: str | None = None) -> str:
    """Address of a view of the page, from the page's own folder: some runs after so many patches read, of those that it has.

    Args:
        remedy: a remedy or control that they are to be seen under as well.
        order: in which they read; None: the first of evaluation.orders.
    """
    drawn = drawn_runs(params)
    address = f"explorer.html#t={round(step)}&runs={','.join(dict.fromkeys(run for run in runs if run in drawn))}"
    address += "" if order in (None, params.evaluation.orders[0]) else f"&order={order}"
    return address if remedy is None else f"{address}&remedy={remedy}"


def inside_script(values: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def still_table(data: dict[str, Any], panel: Panel | None) -> dict[str, Any]:
    """What a reader without scripts sees: runs by a few steps, with the levels of each and a picture where there are some.

    Returns:
        steps; rows: name, L0, cells (levels over all images in words, and address and PSNR of a picture of the first image), words.
    """
    order, metrics = data["orders"][0], data["metrics"]
    curves = {run["name"]: run["levels"][order] for run in data["runs"]}
    curve_steps = sorted({t for found in curves.values() for t in found[metrics[0]["level"]]["t"]})
    steps = moments(sorted(set(data["steps"]) & set(curve_steps)) or curve_steps, data["L0"])
    rows = []
    for run in data["runs"]:
        if run["name"] not in data["shown"]:
            continue
        found = curves[run["name"]]
        levels = [
            (m, dict(zip(found[m["level"]]["t"], found[m["level"]]["mean"], strict=True)))
            for m in metrics
            if m["level"] in found
        ]
        cells = [{"levels": _told(levels, t), "picture": _picture(panel, run["name"], t)} for t in steps]
        words = " ".join(_words(run, *level) for level in levels)
        rows.append({"name": run["name"], "L0": run["L0"], "cells": cells, "words": words})
    return {"steps": steps, "rows": rows}


def _told(levels: list[tuple[dict[str, str], dict[int, float]]], step: int) -> list[str]:
    """The levels at a step in words, the first without its unit, which stands above the table."""
    return [
        f"{known[step]:.1f}" if k == 0 else f"{known[step]:.0f} {metric['unit']}"
        for k, (metric, known) in enumerate(levels)
        if step in known
    ]


def _picture(panel: Panel | None, run: str, step: int) -> dict[str, Any] | None:
    strip = None if panel is None else panel.strips.get(run, {}).get(0)
    if panel is None or strip is None or step not in strip.steps:
        return None
    tile = strip.tiles[strip.steps.tolist().index(step)]
    return {"address": data_address(tile), "psnr": panel.psnr(run, step, 0)}


def _words(run: dict[str, Any], metric: dict[str, str], levels: dict[int, float]) -> str:
    """Where a run stands long before and long after its training length, against its level there."""
    steps, L0, label = sorted(levels), run["L0"], metric["label"]
    at_L0 = levels[nearest(steps, L0)]
    parts = [
        _against(levels[t] - at_L0, t, metric["change"])
        for t in dict.fromkeys((nearest(steps, L0 / 4), steps[-1]))
        if t != L0
    ]
    return f"{label} of {run['name']} against its level at L0 = {L0}: {' and '.join(parts)}."


def _against(difference: float, step: int, unit: str) -> str:
    return f"{abs(difference):.1f} {unit} {'below' if difference < 0 else 'above'} at t = {step}"


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")

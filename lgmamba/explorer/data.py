"""What the explorer shows, as plain values from the frames: numbers for curves and maps, pictures as they are packed."""

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.colors import Colormap, to_hex
from PIL import Image

from lgmamba.analysis import figures_of
from lgmamba.analysis.contrasts import DESCRIBED, UNTESTABLE, VERDICTS
from lgmamba.analysis.families import (
    ADAPTIVE,
    GENERALIST,
    KINDS,
    SEVERAL,
    SPECIALIST,
    describe_run,
    exemplary_runs,
    kind_of,
)
from lgmamba.analysis.panel import Panel, read_panel
from lgmamba.analysis.shown import drawn_runs, runs_first_drawn, shown_rows
from lgmamba.analysis.strips import COLUMNS, pitch
from lgmamba.config.lengths import Fixed
from lgmamba.config.run import LengthTokenConfig
from lgmamba.config.study import Params
from lgmamba.config.task import TaskBase
from lgmamba.explorer.levels import dashes, read_levels, read_remedies
from lgmamba.figures.style import SEQUENTIAL, Style
from lgmamba.metrics import ACCURACY, LEAST_MSE, Metric, psnr
from lgmamba.tasks.queried.config import QueriedConfig

MOST_RUNS = 4
"""Runs that are shown side by side."""
LARGEST_ERROR = 0.5
"""Of a pixel, on the scale 0 to 1: where the colours of errors end."""
SHADES = 64
AGES = sns.color_palette("mako", as_cmap=True)
LEAST_LEFT = 0.05
"""Share of what was read at a time that must be left, not read again, for a map to show its error: where places are drawn at
random the rest is mostly at the edge, where images are easy, and would look like what is remembered best."""
KIND_WORDS = {
    SPECIALIST: "trained at one length",
    GENERALIST: "trained at many lengths",
    SEVERAL: "judged at many steps of a sequence",
    ADAPTIVE: "trained at many lengths, and told one",
}
MOMENTS = 7
"""Steps that the page shows where nothing moves."""


def explorer_data(params: Params, frames: Path) -> dict[str, Any]:
    """Everything on the page.

    Args:
        params: the study.
        frames: folder written by `evaluate`, or kept from one.
    Returns:
        values that JSON has; the names are those that the page's scripts use.
    """
    levels, baselines = read_levels(params, frames)
    maps = (
        shown_rows(params, "retention", pl.read_parquet(frames / "figure_retention.parquet"))
        if "retention" in figures_of(params)
        else None
    )
    panel = read_panel(frames / "panel.safetensors") if params.task.IMAGES else None
    style = Style(runs_first_drawn(params), params.task)
    orders = params.evaluation.orders
    curves = [levels[run][orders[0]]["psnr"] for run in levels]
    steps = sorted({t for curve in curves for t in curve["t"]}) if panel is None else panel.steps
    maps = None if maps is None else maps.with_columns(few=_few_left())
    scale = None if maps is None else _scale(maps.filter(~pl.col("few")))
    summary = pl.read_parquet(frames / "summary.parquet").filter(pl.col("run").is_in(list(levels)), method="model")
    return {
        "study": params.study,
        "title": params.report.title,
        "question": params.report.question,
        "answer": _answer(pl.read_parquet(frames / "contrasts.parquet")),
        "kinds": _kinds(params, list(levels)),
        "metrics": [_words_of("psnr", params.task.METRICS[0]), _words_of(ACCURACY.level, ACCURACY)],
        "read": params.task.STEPS,
        "steps": steps,
        "start": nearest(steps, params.L0 / 4),
        "L0": params.L0,
        "most": MOST_RUNS,
        "shown": first_runs(params),
        "orders": list(
            dict.fromkeys([*orders, *([] if params.remedy_evaluation is None else params.remedy_evaluation.orders)])
        ),
        "seeds": sorted({int(seed) for curve in curves for seed in curve["seeds"]}),
        "n": {
            "images": summary["n_images"].min(),
            "seeds": sorted(summary["n_seeds"].unique()),
            "split": params.evaluation.split,
        },
        "runs": [
            {
                "name": run,
                "kind": kind_of(config),
                "one": isinstance(config.task.lengths, Fixed),
                "words": describe_run(config),
                "L0": config.L0,
                "colour": to_hex(style[run].colour),
                "dash": dashes(style[run].line),
                "levels": levels[run],
                "map": None if maps is None or scale is None else _map(maps.filter(pl.col("run") == run), *scale),
                "strips": [] if panel is None else [_strip(panel, run, i) for i in _images(panel)],
            }
            for run, config in params.runs_by_name().items()
            if run in levels
        ],
        "baselines": baselines,
        "remedies": read_remedies(params, frames),
        "maps": None
        if maps is None or scale is None
        else {
            "ends": [f"{10**end:.2g}" for end in scale],
            "few": f"{100 * LEAST_LEFT:g}" if maps["few"].any() else None,
            "oldest": _octave(max(maps["age_high"].to_list())),
        },
        "ramps": {"error": shades(SEQUENTIAL), "age": shades(AGES.reversed()), "largest": LARGEST_ERROR},
        "pictures": None if panel is None else _pictures(panel, params.task),
    }


def sheets(panel: Panel, runs: list[str], shown: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The sheets of the runs on the page by name, WebP in base64: of the view that it begins with, and all others, image by image."""
    places = [(run, image) for image in _images(panel) for run in runs if image in panel.strips.get(run, {})]
    first = [(run, image) for run, image in places if image == 0 and run in shown]
    named = [
        {_sheet(panel, run, image): base64.b64encode(panel.strips[run][image].webp).decode() for run, image in some}
        for some in (first, [place for place in places if place not in first])
    ]
    return named[0], named[1]


def first_runs(params: Params) -> list[str]:
    """The runs that the page begins with: what `exemplary_runs` names, then those that are told the length, then the rest; of those
    that it has.
    """
    told, drawn = [comparison.adaptive for comparison in params.claims.comparisons], drawn_runs(params)
    ordered = dict.fromkeys([*exemplary_runs(params), *told, *drawn])
    return [run for run in ordered if run in drawn][: MOST_RUNS - 1]


def moments(steps: list[int], L0: int) -> list[int]:
    """A few steps that tell the story: from well before L0 to the longest."""
    last = steps[-1]
    return sorted({nearest(steps, f) for f in (L0 / 16, L0 / 4, L0 / 2, L0, 2 * L0, 4 * L0, last)})[-MOMENTS:]


def nearest(steps: list[int], wanted: float) -> int:
    """The step nearest to a value on a log scale."""
    return min(steps, key=lambda t: abs(math.log(t / wanted)))


def data_address(tiles: np.ndarray) -> str:
    """(C, H, W) uint8 -> an address that holds the picture itself."""
    return f"data:image/webp;base64,{_webp(tiles)}"


def shades(colours: Colormap) -> list[str]:
    """A scale of colours, #rrggbb."""
    return [to_hex(colours(i / (SHADES - 1))) for i in range(SHADES)]


def _words_of(level: str, metric: Metric) -> dict[str, str]:
    return {
        "level": level,
        "label": metric.label,
        "unit": metric.unit,
        "change": metric.difference_unit,
        "definition": metric.definition,
    }


def _answer(contrasts: pl.DataFrame) -> list[tuple[str, list[str]]]:
    """Each verdict and the claims that got it; none where no claim got one."""
    found = {
        verdict: contrasts.filter(verdict=verdict)["claim"].to_list()
        for verdict in VERDICTS
        if verdict not in (DESCRIBED, UNTESTABLE)
    }
    return [(verdict, claims) for verdict, claims in found.items() if claims]


def _kinds(params: Params, names: list[str]) -> str:
    """What the words mean that say how runs were trained, of those that occur; nothing where all were trained alike."""
    runs = [params.runs_by_name()[name] for name in names]
    found = {kind_of(run) for run in runs}
    if len(found) == 1:
        return ""
    said = [f"{kind.capitalize()}: {KIND_WORDS[kind]}." for kind in KINDS if kind in found]
    if ADAPTIVE in found:
        said.append("T: the length of the whole sequence.")
    if any(isinstance(run.model.adaptive, LengthTokenConfig) for run in runs):
        said.append("A token: an extra first input that tells it.")
    return " ".join(said)


def _few_left() -> pl.Expr:
    """Whether less than LEAST_LEFT is left of what was read at a time, or of all pixels, of rows of figure_retention."""
    count, per = pl.col("count"), ["run", "step"]
    fresh = count.filter(pl.col("age_low") == 0).first().over(per)
    ages = pl.min_horizontal("age_high", pl.col("step") - 1) - pl.col("age_low") + 1
    once = pl.when(pl.col("age_low") < 0).then(count.sum().over(per)).otherwise(fresh * ages)
    return (count < LEAST_LEFT * once).fill_null(False)


def _scale(maps: pl.DataFrame) -> tuple[float, float]:
    """Ends of the colours of maps, log10 of the error, as in the figure."""
    least, most = (maps["mse"].quantile(q) for q in (0.02, 0.98))
    if least is None or most is None:
        raise ValueError("figure_retention: found a frame without rows; expected an error for each step and age")
    low = max(least, LEAST_MSE)
    return math.log10(low), math.log10(max(most, 1.01 * low))


def _map(rows: pl.DataFrame, low: float, high: float) -> dict[str, list]:
    """Steps, and of each cell of the map the position of its step, its octave of age (-1: not read), and its shade (-1: few left)."""
    steps = sorted(rows["step"].unique())
    at = {step: i for i, step in enumerate(steps)}
    cells = []
    for step, age, mse, few in rows.select("step", "age_low", "mse", "few").rows():
        share = (math.log10(max(mse, LEAST_MSE)) - low) / (high - low)
        cells += [at[step], -1 if age < 0 else _octave(age), -1 if few else round(min(max(share, 0), 1) * (SHADES - 1))]
    return {"steps": steps, "cells": cells}


def _octave(age: int) -> int:
    """Ages 2^k - 1 .. 2^(k + 1) - 2 are octave k."""
    return int(math.log2(1 + age))


def _images(panel: Panel) -> range:
    return range(len(panel.images))


def _strip(panel: Panel, run: str, image: int) -> dict[str, Any] | None:
    strip = panel.strips.get(run, {}).get(image)
    if strip is None:
        return None
    levels = [round(float(level), 2) for level in psnr(strip.mse.astype(np.float64))]
    return {"steps": strip.steps.tolist(), "psnr": levels, "sheet": _sheet(panel, run, image)}


def _sheet(panel: Panel, run: str, image: int) -> str:
    """Name of a sheet in the file."""
    return f"sheet-{list(panel.strips).index(run)}-{image}"


def _pictures(panel: Panel, task: TaskBase) -> dict[str, Any]:
    asked = None
    if isinstance(task, QueriedConfig):
        stride = task.ask.stride or task.patch_size
        asked = {"stride": stride, "queries": task.queries, "alone": task.ask.queries == "independent"}
    return {
        "seed": panel.seed,
        "asked": asked,
        "reads": panel.reads,
        "patch": panel.patch_size,
        "shape": list(panel.targets.shape[1:]),
        "pitch": list(pitch(panel.targets.shape[1:])),
        "columns": COLUMNS,
        "bytes": panel.cells.dtype.itemsize,
        "images": [
            {
                "row": int(panel.images[i]),
                "webp": _webp(panel.targets[i]),
                "cells": base64.b64encode(
                    panel.cells[i].astype(panel.cells.dtype.newbyteorder("<")).tobytes()
                ).decode(),
            }
            for i in _images(panel)
        ],
    }


def _webp(tile: np.ndarray) -> str:
    packed = io.BytesIO()
    pixels = tile.transpose(1, 2, 0)
    Image.fromarray(pixels[..., 0] if len(tile) == 1 else pixels).save(packed, "webp", lossless=True, method=6)
    return base64.b64encode(packed.getvalue()).decode()

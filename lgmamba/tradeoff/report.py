"""The report of a study of classification against reconstruction: one page, the plain answer first. Every number comes from a frame."""

import os
from pathlib import Path
from typing import Any

import polars as pl

from lgmamba.analysis.statistics import effect_of
from lgmamba.files import to_json, write_atomic
from lgmamba.records import begin, checked, finish, read_record
from lgmamba.report import html_page, inline_png, render, width_rem
from lgmamba.report.contrasts import contrast_context
from lgmamba.tradeoff.claims import UNITS
from lgmamba.tradeoff.config import TradeoffParams
from lgmamba.tradeoff.figures import FIGURES
from lgmamba.tradeoff.figures.controls import NAMES
from lgmamba.tradeoff.frames import LEVELS
from lgmamba.tradeoff.keys import FRAMES, report_key

WRITTEN = ("report.md", "report.html", "headline.json")
TITLES = {
    "frontier": "What is had of both along w",
    "exchange": "What the exchange costs, by size of the latent",
    "pictures": "Reconstructions along w",
    "controls": "Controls",
    "gradients": "Gradients of the two losses, and what the latent holds",
}
CAPTIONS = {
    "frontier": "Accuracy against PSNR on test images, one panel a family of encoders; colour: latent size m; points: weights w from "
    "0 (picture alone) to 1 (class alone), some written beside the largest latent's; mean over {seeds} trainings with Student's "
    "intervals. At the ends the head that the encoder was not trained for is trained all the same.",
    "exchange": "Exchange area A and the conflict gaps G_r and G_c (docs/tradeoff.md): what is lacking at the "
    "other end, as a share of what knowing nothing lacks; mean over {seeds} trainings with Student's intervals. "
    "A is left out where a gap's interval reaches 0.",
    "pictures": "The first {pictures} test images (left column) as one stack reconstructs them at each w, first seed; one scale for all.",
    "controls": "The frontier of one encoder and latent size beside what it is to be compared with; mean over {seeds} trainings. "
    "Lines are controls that have one of the two numbers.",
    "gradients": "Above: cosine of the gradients of the two losses by the latent and by the encoder's weights, mean over {seeds} trainings; "
    "1: one serves the other, 0: they do not meet, below 0: they conflict. Below: participation ratio of the latent, and the share of its "
    "variance that lies between classes, at the latent size of the pictures.",
}


def write_report(params: TradeoffParams, frames: Path, figures: Path, out: Path) -> None:
    """Write report.md, report.html and headline.json, and last their record.

    Args:
        frames: folder written by `tradeoff evaluate`, or kept.
        figures: folder with <figure>.png of every figure.
        out: folder of the report.
    Raises:
        ArtefactError: a frame or a figure is missing or damaged; says which.
    """
    record = read_record(frames, "tradeoff evaluate")
    read = {name: pl.read_parquet(checked(frames, f"{name}.parquet", "tradeoff evaluate")) for name in FRAMES}
    figure_records = {name: read_record(figures, "tradeoff figure", name) for name in FIGURES}
    pictures = {name: checked(figures, f"{name}.png", "tradeoff figure", name).read_bytes() for name in FIGURES}
    context = gather(params, read)
    begin(out)
    where = Path(os.path.relpath(figures, out)).as_posix()
    plain = render("tradeoff.md.jinja", context, rich=False, picture=lambda name: f"{where}/{name}")
    rich = render(
        "tradeoff.md.jinja",
        context,
        rich=True,
        picture=lambda name: inline_png(pictures[name]),
        source=lambda name: f"{where}/{name}.png",
        width=lambda name: width_rem(pictures[name]),
    )
    write_atomic(out / "report.md", plain)
    write_atomic(out / "report.html", html_page(rich, params.report.title))
    write_atomic(out / "headline.json", to_json({"study": params.study, "contrasts": context["contrasts"]["rows"]}))
    finish(report_key(params, record, figure_records), out, list(WRITTEN))


def gather(params: TradeoffParams, frames: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """Everything that the template says, as plain values."""
    stacks, summary = frames["stacks"], frames["summary"]
    units = {c.name: UNITS[c.measure] for c in params.claims.primary}
    first = stacks.row(0, named=True)
    words = {"seeds": len(params.seeds), "pictures": params.tradeoff.pictures.images}
    return {
        "params": params,
        "study": params.study,
        "title": params.report.title,
        "question": params.report.question,
        "contrasts": contrast_context(frames["contrasts"], params.claims.fixed, units),
        "units": units,
        "titles": TITLES,
        "captions": {name: text.format(**words) for name, text in CAPTIONS.items()},
        "positions": {name: k for k, name in enumerate(FIGURES, 1)},
        "views": {"figures": {}},  # no page to step through
        "images": {split: first[f"images_{split}"] for split in ("train", "val", "test")},
        "classes": first["n_classes"],
        "mean_image": first["mse_mean_image"],
        "chance": first["chance"],
        "frontiers": frontier_rows(summary, stacks),
        "ends": end_rows(summary),
        "probes": probe_context(frames["points"], stacks),
        "controls": control_rows(summary, params),
        "synergies": synergy_rows(frames["points"], params),
        "runs": int(stacks["runs"].sum()),
        "stacks": len(stacks),
        "wall_s": float(stacks["wall_s"].sum()),
        "device": first["device"],
        "torch": first["torch"],
        "commit": (first["commit"] or "")[:10],
    }


def _cells(rows: pl.DataFrame, names: tuple[str, ...]) -> dict[str, dict[str, Any] | None]:
    """Measure -> its row, None where there is none."""
    found = {row["measure"]: row for row in rows.iter_rows(named=True)}
    return {name: found.get(name) for name in names}


def frontier_rows(summary: pl.DataFrame, stacks: pl.DataFrame) -> list[dict[str, Any]]:
    """One row for each stack of the frontier: gaps, area, synergy, sizes."""
    rows = []
    for row in stacks.filter(variant="main").iter_rows(named=True):
        here = summary.filter(pl.col("stack") == row["stack"], pl.col("weight").is_null())
        rows.append(row | _cells(here, ("gap_r", "gap_c", "area", "synergy")))
    return rows


def end_rows(summary: pl.DataFrame) -> list[dict[str, Any]]:
    """Both ends of each stack of the frontier: heads trained along, and trained anew on the frozen latent."""
    rows = []
    for (stack,), here in summary.filter(variant="main").group_by("stack", maintain_order=True):
        at = {w: _cells(here.filter(pl.col("weight") == w), LEVELS) for w in (0.0, 1.0)}
        rows.append(
            {
                "stack": stack,
                "encoder": here["encoder"][0],
                "latent": here["latent"][0],
                "zero": at[0.0],
                "one": at[1.0],
            }
        )
    return rows


PROBES = (
    ("probe_steps_linear", "probe_converged_linear"),
    ("probe_steps_mlp", "probe_converged_mlp"),
    ("probe_steps_decoder", "probe_converged_decoder"),
)
"""Columns of `points` about each kind of head that is trained anew."""


def probe_context(points: pl.DataFrame, stacks: pl.DataFrame) -> dict[str, Any] | None:
    """How long heads trained anew went on; None where the frames do not say (they were made before it was kept).

    Returns:
        trained, converged: how many heads, those of the control `linear` among them, and how many of these met their stopping rule;
        rows: of each stack with such heads, for each of PROBES, the steps of the kept weights, sorted, and how many met the rule; None
        where it has none of the kind.
    """
    if not {name for names in PROBES for name in names} <= set(points.columns):
        return None
    rows = []
    for stack in stacks["stack"]:
        here = points.filter(pl.col("stack") == stack)
        fitted = [here.select(steps=steps, met=met).drop_nulls() for steps, met in PROBES]
        heads = [
            {"steps": f["steps"].sort().to_list(), "converged": int(f["met"].sum())} if len(f) else None for f in fitted
        ]
        if any(heads):
            rows.append({"stack": stack, "heads": heads})
    every = [head for row in rows for head in row["heads"] if head]
    return {
        "trained": sum(len(head["steps"]) for head in every),
        "converged": sum(head["converged"] for head in every),
        "rows": rows,
    }


def control_rows(summary: pl.DataFrame, params: TradeoffParams) -> list[dict[str, Any]]:
    """PSNR and accuracy of each control and weight, the frontier's own stack first."""
    controls = params.tradeoff.controls
    if controls is None:
        return []
    here = summary.filter(
        pl.col("encoder") == controls.encoder, (pl.col("variant") != "main") | (pl.col("latent") == controls.latent)
    ).filter(pl.col("measure").is_in(["psnr", "accuracy"]))
    rows = []
    for (variant, what, weight), found in here.group_by("variant", "what", "weight", maintain_order=True):
        name = what if variant == "linear" else variant
        told = variant != "random_labels"  # accuracy on classes that were never shown says nothing
        cells = _cells(found, ("psnr", "accuracy"))
        rows.append(
            {"control": NAMES[name], "weight": weight, **cells, "accuracy": cells["accuracy"] if told else None}
        )
    order = list(NAMES.values())
    return sorted(rows, key=lambda row: (order.index(row["control"]), -1 if row["weight"] is None else row["weight"]))


def synergy_rows(points: pl.DataFrame, params: TradeoffParams) -> list[dict[str, Any]]:
    """Weights that gain both, PSNR over w = 0 and accuracy over w = 1, by intervals that lie above 0, not corrected for their number."""
    rows = []
    for (stack,), runs in points.filter(variant="main").group_by("stack", maintain_order=True):
        ends = {w: runs.filter(pl.col("weight") == w).sort("seed") for w in runs["weight"].unique().to_list()}
        for w in sorted(set(ends) - {0.0, 1.0}):
            gains = [
                effect_of((ends[w][name] - ends[end][name]).to_list(), params.claims.level)
                for name, end in (("psnr", 0.0), ("accuracy", 1.0))
            ]
            if len(params.seeds) > 1 and all(gain.lo > 0 for gain in gains):
                rows.append({"stack": stack, "weight": w, "psnr": gains[0], "accuracy": gains[1]})
    return rows

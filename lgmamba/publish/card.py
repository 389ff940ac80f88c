"""Model cards: what a run is, how it was configured, and what it reaches, from the study's frames."""

import json
from typing import Any

import polars as pl

from lgmamba.analysis.families import describe_run
from lgmamba.config.study import Params
from lgmamba.metrics import Metric

LENGTH_RATIOS = (0.25, 1, 2, 4, 8, 25)
"""Lengths of which a card tells the level, in units of L0, where they were read."""

EXAMPLE = """\
```python
import lgmamba

trained = lgmamba.load("seed{seed}/train/model.safetensors")
pictures = trained.reconstruct(image, "{order}", [{L0}])  # an image of shape {shape}, channels first
```
"""


def card_of(params: Params, run: str, summary: pl.DataFrame, trainings: pl.DataFrame) -> str:
    """The card of one run.

    Args:
        params: the study.
        run: its name.
        summary: the study's frame `summary`.
        trainings: the study's frame `runs`.
    Returns:
        Markdown that begins with a head of YAML, as the Hugging Face Hub reads it.
    """
    config, own = params.runs_by_name()[run], trainings.filter(pl.col("run") == run)
    reached = levels(params, run, summary)
    lines = [
        "---",
        "license: mit",
        "library_name: lgmamba",
        f"tags: [mamba, length-generalization{', image-reconstruction' if params.task.IMAGES else ''}]",
        "---",
        "",
    ]
    lines += [
        f"# `{run}` of study `{params.study}`",
        "",
        f"{describe_run(config)}. Task `{config.task.kind}`, L0 = {config.L0} {config.task.STEPS}.",
    ]
    if note := params.notes().get(run):
        lines += ["", note]
    seeds = ", ".join(str(seed) for seed in own["seed"])
    parameters = ", ".join(f"{n:,}" for n in own["parameters"].drop_nulls().unique().sort())
    lines += [
        "",
        f"Trainings: seeds {seeds}; {parameters or 'unknown'} weights each; {config.train.steps:,} steps.",
        "",
    ]
    metric, evaluation = config.task.METRICS[0], params.evaluation
    lines += ["## What it reaches", ""]
    lines += [
        f"{metric.title} on held-out samples (split `{evaluation.split}`), order `{evaluation.orders[0]}`, mode "
        "prefix; mean over trainings, lowest and highest of them.",
        "",
        "| length | level | lowest | highest | trainings | samples |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in reached:
        psnr = " | ".join(f"{row[key]:.{metric.digits}f}" for key in ("psnr", "psnr_lo", "psnr_hi"))
        lines.append(f"| {row['factor']:g} x L0 = {row['step']} | {psnr} | {row['n_seeds']} | {row['n_images']} |")
    if params.task.IMAGES:
        shape = f"{3 if params.data.channels == 'rgb' else 1} x {params.data.image_size} x {params.data.image_size}"
        seed = own["seed"].min()
        lines += ["", "## Use", "", EXAMPLE.format(seed=seed, order=evaluation.orders[0], L0=config.L0, shape=shape)]
    lines += [
        "## Limits",
        "",
        f"A model for the study of sequence lengths, far too small for anything else.{_beyond(reached, metric)}",
        "",
    ]
    lines += [
        "## Licence",
        "",
        "Weights and code: MIT. The images that it was trained on keep the licence of their source.",
        "",
    ]
    lines += ["## Configuration", "", "```json", json.dumps(config.model_dump(mode="json"), indent=1), "```", ""]
    return "\n".join(lines)


def _beyond(reached: list[dict[str, Any]], metric: Metric) -> str:
    """What is left of the level at L0 at the longest length that was read, in a sentence; nothing where one of the two was not."""
    by_factor = {row["factor"]: row["psnr"] for row in reached}
    furthest = max(by_factor, default=1)
    if 1 not in by_factor or furthest <= 1:
        return ""
    change = round(by_factor[furthest] - by_factor[1], metric.digits)
    if change == 0:
        return f" At {furthest:g} L0 it reaches what it reaches at L0."
    unit = f" {metric.difference_unit}" if metric.difference_unit else ""
    return f" At {furthest:g} L0 it is {abs(change):.{metric.digits}f}{unit} {'worse' if change < 0 else 'better'} than at L0."


def levels(params: Params, run: str, summary: pl.DataFrame) -> list[dict[str, Any]]:
    """What a run reaches at the lengths of `LENGTH_RATIOS`: rows of the frame, with the factor."""
    L0 = params.runs_by_name()[run].L0
    own = summary.filter(
        pl.col("run") == run,
        pl.col("method") == "model",
        pl.col("mode") == "prefix",
        pl.col("order") == params.evaluation.orders[0],
    )
    by_step = {row["step"]: row for row in own.iter_rows(named=True)}
    return [{"factor": f, **by_step[round(f * L0)]} for f in LENGTH_RATIOS if round(f * L0) in by_step]

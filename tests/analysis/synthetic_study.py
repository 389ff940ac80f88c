"""Run folders with made-up but plausible results, in exactly the layout of a real study.

The made-up truth: a specialist is bad until just before its length and falls after it; a generalist rises slowly and falls
slowly; an adaptive run lies between them, and falls faster. Image difficulty is shared by all runs, so pairing matters.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from lgmamba.config.files import evaluation_file
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params
from lgmamba.files import file_digest
from lgmamba.keys import reading_key, train_key
from tests.analysis.synthetic_probes import write_probes
from tests.analysis.synthetic_remedies import write_remedies
from tests.records import record

DATA_DIGEST = "d" * 64
MEAN_IMAGE_DB = 12.0

DIGITS_RUNS = {
    "fixed_2": {"task": {"lengths": {"kind": "fixed", "value": 2}}},
    "fixed_4": {"task": {"lengths": {"kind": "fixed", "value": 4}}},
    "fixed_8": {"task": {"lengths": {"kind": "fixed", "value": 8}}},
    "fixed_16": {"task": {"lengths": {"kind": "fixed", "value": 16}}},
    "uniform": {},
    "uniform_short": {"task": {"lengths": {"kind": "uniform", "low": 1, "high": 4}}},
    "adaptive": {"model": {"adaptive": {"kind": "both", "features": "T_and_t", "hidden": 8, "beyond": "extrapolate"}}},
}


PRIMARY = [
    {
        "name": "C1",
        "claim": "Beyond its training lengths a generalist gets worse",
        "of": {"run": "uniform", "at": "2 L0"},
        "minus": {"run": "uniform", "at": "L0"},
        "claimed": "below",
    },
    {
        "name": "C4",
        "claim": "Told the length, a model gains across the training lengths",
        "of": {"run": "adaptive", "at": "to L0"},
        "minus": {"run": "uniform", "at": "to L0"},
        "claimed": "above",
    },
]
"""Primary contrasts of the made-up study."""


def study_values(runs: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Values of a digits-like study: 8 x 8 grey images, cells of 2 x 2 pixels, L0 = 16 patches."""
    mixer = {"kind": "mamba", "d_state": 4, "d_conv": 4, "expand": 2, "dt_rank": "auto", "dt_min": 0.001, "dt_max": 0.1}
    values = {
        "study": "synthetic",
        "data": {
            "source": {"kind": "digits"},
            "image_size": None,
            "fit": "exact",
            "channels": "grey",
            "splits": {"calib": 0.05, "val": 0.1, "test": 0.2},
            "on_bad_image": "error",
            "max_pixels": 1000000,
        },
        "task": {
            "patch_size": 2,
            "order": "permutation",
            "lengths": {"kind": "uniform", "low": 1, "high": 16},
            "supervision": {"kind": "last"},
        },
        "model": {
            "d_model": 32,
            "n_layer": 2,
            "mixer": mixer,
            "position": "absolute",
            "decoder": {"kind": "mlp", "hidden": 64},
            "adaptive": None,
            "scan_backend": "auto",
        },
        "train": {
            "steps": 400,
            "batch_size": 32,
            "lr": 0.002,
            "warmup_steps": 20,
            "final_lr": 0.1,
            "weight_decay": 0.01,
            "betas": [0.9, 0.99],
            "grad_clip": 1.0,
            "precision": "auto",
            "log_every": 20,
            "validate_every": 100,
            "validate_images": 64,
            "checkpoint_every_s": 60,
            "cpu_threads": 1,
        },
        "runs": DIGITS_RUNS if runs is None else runs,
        "seeds": [0, 1],
        "evaluation": {
            "split": "test",
            "images": 40,
            "repeats": 2,
            "orders": ["permutation"],
            "max_length_ratio": 25,
            "length_ratios": [1.25, 1.5, 2, 4, 8, 16],
            "extra_steps": [12],
            "batch_images": 64,
            "chunk": 64,
            "panel_images": 3,
        },
        "claims": {
            "comparisons": [{"generalist": "uniform", "adaptive": "adaptive"}],
            "seeds": 2,
            "primary": PRIMARY,
            "far_length_ratios": [2, 4, 8, 25],
        },
        "outputs": {"data": "data/synthetic", "results": "results/synthetic", "reports": "reports/synthetic"},
        "tracking": {"kind": "none", "store": "mlflow"},
        "device": "cpu",
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    known = set(values["runs"])
    values["claims"]["primary"] = [
        c for c in values["claims"]["primary"] if {c["of"]["run"], c["minus"]["run"]} <= known
    ]
    return values


def make_study(
    root: Path, values: dict[str, Any] | None = None, pictures: np.ndarray | None = None
) -> tuple[Path, Path]:
    """Write a whole synthetic study.

    Args:
        root: where results/ goes.
        values: as `study_values` gives them.
        pictures: (n, C, H, W) uint8 for the panel; made up if None.
    Returns:
        study.json and the study's results folder.
    """
    params = Params.model_validate(study_values() if values is None else values)
    results = root / "results" / params.study
    study_json = results / "config/study.json"
    study_json.parent.mkdir(parents=True)
    study_json.write_text(params.model_dump_json(indent=1))
    if pictures is None:
        pictures = np.random.default_rng(0).integers(0, 256, (params.evaluation.panel_images, 1, 8, 8), dtype=np.uint8)
    for (name, seed), run in params.run_configs().items():
        path = results / "runs" / name / f"seed{seed}"
        write_run(path, params, run, pictures)
        if params.remedy_evaluation is not None and name in params.remedy_evaluation.runs:
            write_remedies(path, params, run, float(true_psnr(run, np.array(run.L0))))
        if params.probes is not None and name in params.probes.runs:
            write_probes(path, params, run)
    return study_json, results


def true_psnr(run: RunConfig, t: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Made-up PSNR in dB at steps t; with a generator, a seed's own deviation on top."""
    L0, kind = run.L0, run.task.lengths.kind
    reach = 1.7 * np.log2(1 + np.minimum(t, L0))
    beyond = np.log2(np.maximum(t, L0) / L0)
    if run.model.adaptive is not None:
        psnr = 13.4 + reach - 1.1 * beyond
    elif kind == "fixed" and run.task.supervision.kind == "last":
        psnr = 13.8 + 1.7 * math.log2(1 + L0) - 11 * (1 - np.minimum(t, L0) / L0) ** 0.8 - 1.2 * beyond
    else:
        psnr = 13.1 + 0.95 * reach + 0.2 - 0.7 * beyond
    return psnr if rng is None else psnr + rng.normal(0, 0.08)


def write_run(path: Path, params: Params, run: RunConfig, pictures: np.ndarray) -> None:
    """Both stages' outputs of one training."""
    rng = np.random.default_rng([run.seed, *run.run.encode()])
    train, evaluation = path / "train", path / "evaluation"
    train.mkdir(parents=True)
    evaluation.mkdir()
    save_file({"weight": np.full(3, run.seed + len(run.run), dtype=np.float32)}, train / "model.safetensors")
    (train / "run.json").write_text(run.model_dump_json(indent=1))
    lengths = [t for t in (1, 2, 4, 8, 16, 32, 64) if t <= run.L0]
    _history(run, lengths, rng).write_parquet(train / "history.parquet")
    common = {
        "run": run.run,
        "seed": run.seed,
        "study": run.study,
        "L0": run.L0,
        "data_digest": DATA_DIGEST,
        "code_digest": "c" * 64,
    }
    summary = {
        "steps": run.train.steps,
        "wall_s": 20.5,
        **(
            {}
            if run.model.mixer.kind == "attention"
            else {"tau": {"start": [1.0, 8.0, 32.0], "end": [2.0, 16.0, 64.0]}}
        ),
        "images_per_s": 1234.5,
        "parameters": 54321,
        "device": "cpu",
        "device_name": "Example CPU",
        "backend": "reference",
        "peak_rss_mb": 512.0,
        "peak_gpu_mb": None,
        "versions": {"torch": "2.13.0", "polars": "2.1.0", "mamba-ssm": None},
        "git": {"commit": "0123456789abcdef", "dirty": False},
        "final": {"loss": 0.02, "val_psnr": {str(t): 15.0 for t in lengths}},
    }
    digest = file_digest(train / "model.safetensors")
    (train / "train.json").write_text(json.dumps(common | summary | {"checkpoint_digest": digest}))
    steps = params.evaluation_steps(run)
    found = {
        "wall_s": 3.2,
        "images": params.evaluation.images,
        "repeats": params.evaluation.repeats,
        "steps": steps,
        "evaluation": params.evaluation.model_dump(mode="json"),
    }
    (evaluation / "evaluation.json").write_text(json.dumps(common | found | {"checkpoint_digest": digest}))
    psnr = true_psnr(run, np.array(steps), rng)
    _steps(params, run, steps, psnr, rng).write_parquet(evaluation / "steps.parquet")
    cells = visiting(len(pictures), pictures.shape[2] // run.task.patch_size, max(steps))
    _retention(params, run, steps, psnr, cells.shape, rng).write_parquet(evaluation / "retention.parquet")
    save_file(_panel(run, params.panel_steps(), cells, pictures, rng), evaluation / "panel.safetensors")
    record(train_key(run, DATA_DIGEST), train)
    record(reading_key(evaluation_file(params, run), DATA_DIGEST, digest), evaluation)


def visiting(images: int, side: int, steps: int) -> np.ndarray:
    """(M, T) permutation orders of side x side cells."""
    rng = np.random.default_rng(7)
    G = side * side
    return np.stack(
        [np.concatenate([rng.permutation(G) for _ in range(-(-steps // G))])[:steps] for _ in range(images)]
    )


def _history(run: RunConfig, lengths: list[int], rng: np.random.Generator) -> pl.DataFrame:
    rows = []
    for step in range(0, run.train.steps + 1, run.train.validate_every):
        done = 1 - math.exp(-4 * step / run.train.steps)
        rows.append((step, "loss", None, 0.08 - 0.06 * done))
        rows.append((step, "images_per_s", None, 1200.0))
        rows += [
            (step, "val_psnr", t, 11 + done * (float(true_psnr(run, np.array(t))) - 11) + rng.normal(0, 0.05))
            for t in lengths
        ]
    schema = {"step": pl.Int64, "metric": pl.String, "length": pl.Int64, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").select(
        pl.lit(run.run).alias("run"), pl.lit(run.seed, pl.Int64).alias("seed"), pl.all()
    )


def _steps(
    params: Params, run: RunConfig, steps: list[int], psnr: np.ndarray, rng: np.random.Generator
) -> pl.DataFrame:
    n, R = params.evaluation.images, params.evaluation.repeats
    difficulty = np.random.default_rng(1).normal(
        0, 0.3, n
    )  # the same for every run: images differ, runs see the same ones
    grid = pl.DataFrame({"step": steps, "level": 10 ** (-psnr / 10)}, schema={"step": pl.Int64, "level": pl.Float64})
    images = pl.DataFrame({"image": np.arange(100, 100 + n), "factor": np.exp(difficulty - difficulty.std() ** 2 / 2)})
    settings = pl.DataFrame({"mode": ["stream", "prefix"]}).join(
        pl.DataFrame({"order": params.evaluation.orders}), how="cross"
    )
    rows = settings.join(pl.DataFrame({"method": ["model", "paste", "mean_image"]}), how="cross").join(
        pl.DataFrame({"repeat": list(range(R))}), how="cross"
    )
    rows = rows.join(images, how="cross").join(grid, how="cross")
    G = (8 // 2) ** 2
    noise = pl.Series("noise", np.exp(rng.normal(0, 0.05, len(rows))))
    mean_image = 10 ** (-MEAN_IMAGE_DB / 10)
    mse = pl.when(pl.col("method") == "model").then(pl.col("level") * noise).when(pl.col("method") == "paste").then(
        mean_image * (1 - pl.col("step") / G).clip(0)
    ).otherwise(mean_image) * pl.col("factor")
    rows = rows.with_columns(mse=mse.cast(pl.Float32)).with_columns(psnr=(-10 * pl.col("mse").log10()).cast(pl.Float32))
    named = rows.select(
        pl.lit(run.run).alias("run"),
        pl.lit(run.seed, pl.Int64).alias("seed"),
        "mode",
        "order",
        "method",
        "repeat",
        "image",
        "step",
        "mse",
        "psnr",
    )
    return named.with_columns(pl.col("repeat", "image", "step").cast(pl.Int64))


def _retention(
    params: Params, run: RunConfig, steps: list[int], psnr: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator
) -> pl.DataFrame:
    G, rows = 16, []
    forget = 0.35 if run.task.lengths.kind == "fixed" else 0.15
    for t, level in zip(steps, 10 ** (-psnr / 10), strict=True):
        grow = forget * (1 + 0.5 * math.log2(max(t, run.L0) / run.L0))
        ages = [*range(min(t, 2 * G - 1))] + ([-1] if t < G else [])
        for age in ages:
            mse = level * (1.6 if age < 0 else 0.5 + grow * math.log2(1 + age)) * math.exp(rng.normal(0, 0.03))
            count = 40 * (G - t) if age < 0 else 40
            rows += [("model", t, age, mse, count), ("mean_image", t, age, 0.063, count)]
    schema = {"method": pl.String, "step": pl.Int64, "age": pl.Int64, "mse": pl.Float64, "count": pl.Int64}
    cells = pl.DataFrame(rows, schema=schema, orient="row")
    both = [
        cells.with_columns(mode=pl.lit(mode), order=pl.lit(order))
        for mode in ("stream", "prefix")
        for order in params.evaluation.orders
    ]
    return pl.concat(both).select(
        pl.lit(run.run).alias("run"),
        pl.lit(run.seed, pl.Int64).alias("seed"),
        "mode",
        "order",
        "method",
        "step",
        "age",
        "mse",
        "count",
    )


def _panel(
    run: RunConfig,
    steps: list[int],
    cells: np.ndarray,
    pictures: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    target = pictures / 255
    noise = rng.normal(0, 1, pictures.shape)
    rms = np.sqrt(10 ** (-true_psnr(run, np.array(steps)) / 10))
    blur = target.mean((2, 3), keepdims=True)
    mixed = np.stack([(1 - min(1, 2 * r)) * target + min(1, 2 * r) * blur + 0.3 * r * noise for r in rms])
    return {
        "steps": np.array(steps),
        "images": np.arange(100, 100 + len(pictures)),
        "targets": np.ascontiguousarray(pictures),
        "reconstructions": np.round(255 * mixed.clip(0, 1)).astype(np.uint8),
        "mse": ((mixed - target) ** 2).mean((2, 3, 4)).astype(np.float32),
        "cells": cells.astype(np.int64),
    }

"""What the stage `remedy` would write for a synthetic study.

The made-up truth: up to L0 nothing changes anything (but `paste`); beyond it PSNR changes by a slope in dB for each doubling of T.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lgmamba.config.files import remedy_file
from lgmamba.config.remedies import RESERVED, rows_of
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params
from lgmamba.files import file_digest
from lgmamba.keys import reading_key
from lgmamba.tasks.draw.config import DrawConfig
from tests.records import record

VALUES: dict[str, Any] = {
    "remedies": [
        {"name": "dt_running", "kind": "step_size", "form": "power", "p": 1.0, "mode": "stream"},
        {"name": "a_gradient", "kind": "spectrum", "form": "mult", "calibrate": "gradient", "mode": "prefix"},
        {"name": "deci_random", "kind": "decimamba", "score": "random", "layers": [1], "mode": "prefix"},
        {"name": "clip", "kind": "normalise_state", "mode": "stream"},
        {"name": "together", "combine": ["dt_running", "clip"]},
    ],
    "remedy_evaluation": {
        "runs": ["uniform_short", "uniform"],
        "length_ratios": [1, 2, 4, 8, 25],
        "orders": ["permutation", "replacement"],
        "images": 20,
        "repeats": 1,
        "calibration": {"images": 16, "steps": 3, "lengths": [2, 25], "order": "permutation"},
    },
}

SLOPES = {
    "vanilla": -0.7,
    "truncate": -0.1,
    "reset": -0.3,
    "subset_random": -0.04,
    "subset_cover": 0.05,
    "freeze": 0.0,
    "dt_running": 0.6,
    "a_gradient": -0.2,
    "deci_random": -0.04,
    "clip": -0.9,
    "together": 0.45,
}
"""dB for each doubling of T beyond L0."""


def write_remedies(path: Path, params: Params, run: RunConfig, psnr_at_L0: float) -> None:
    """The remedies of one training, next to its train/ and evaluation/."""
    rng = np.random.default_rng([7, run.seed, *run.run.encode()])
    out = path / "remedies"
    out.mkdir()
    steps = params.remedy_evaluation.steps(run.L0)
    entries = _entries(params, run, steps)
    parts = [_steps(params, run, entry, steps, psnr_at_L0, rng) for entry in entries]
    pl.concat(parts).write_parquet(out / "steps.parquet")
    pl.concat([_retention(params, run, entry, steps, psnr_at_L0) for entry in entries]).write_parquet(
        out / "retention.parquet"
    )
    train = json.loads((path / "train/train.json").read_text())
    found = {
        "run": run.run,
        "seed": run.seed,
        "L0": run.L0,
        "steps": steps,
        "images": params.remedy_evaluation.images,
        "repeats": params.remedy_evaluation.repeats,
        "wall_s": 12.5,
        "data_digest": train["data_digest"],
        "checkpoint_digest": file_digest(path / "train/model.safetensors"),
        "code_digest": "c" * 64,
        "remedy_evaluation": params.remedy_evaluation.model_dump(mode="json"),
        "remedies": entries,
    }
    (out / "remedies.json").write_text(json.dumps(found))
    record(reading_key(remedy_file(params, run), found["data_digest"], found["checkpoint_digest"]), out)


def _entries(params: Params, run: RunConfig, steps: list[int]) -> list[dict[str, Any]]:
    always = [("vanilla", "vanilla", "prefix", "the model as it is")]
    always += [(name, "control", "prefix", name.replace("_", " ")) for name in rows_of(DrawConfig)[2:]]
    modes = {entry.name: getattr(entry, "mode", "stream") for entry in params.remedies}
    listed = [(entry.name, entry.kind, modes[entry.name], entry.description) for entry in params.remedies]
    beyond = [t for t in steps if t > run.L0]
    return [
        {
            "name": name,
            "kind": kind,
            "mode": mode,
            "words": words,
            "control": name in RESERVED,
            "calibration": None
            if name != "a_gradient"
            else {
                "images": 16,
                "n_forward": 12,
                "seconds": 1.5,
                "T": {str(t): {"factors": [0.5, 2.0], "before": 0.05, "after": 0.04} for t in beyond[:2]},
            },
            "read_s": 2.0 if name == "vanilla" else 3.0,
            "identity": 0.0,
            "written_share": {str(t): 0.0 if name == "freeze" else 1.0 for t in beyond},
            "step_size_share": {str(t): run.L0 / t if kind == "step_size" else 1.0 for t in beyond},
        }
        for name, kind, mode, words in [*always, *listed]
    ]


def true_level(name: str, steps: np.ndarray, L0: int, psnr_at_L0: float) -> np.ndarray:
    """Made-up PSNR in dB at steps: 1 dB for each doubling up to L0."""
    if name == "paste":
        return np.where(steps >= 16, 60.0, 11 + steps / 4)
    doublings = np.log2(steps / L0)
    return psnr_at_L0 + np.where(doublings <= 0, doublings, SLOPES[name] * doublings)


def _steps(
    params: Params, run: RunConfig, entry: dict[str, Any], steps: list[int], psnr_at_L0: float, rng: np.random.Generator
) -> pl.DataFrame:
    n, t = params.remedy_evaluation.images, np.array(steps)
    images = np.arange(200, 200 + n)
    difficulty = np.exp(np.random.default_rng(3).normal(0, 0.3, n))
    difficulty /= difficulty.mean()
    level = 10 ** (-true_level(entry["name"], t, run.L0, psnr_at_L0) / 10)
    rows = []
    for order in params.remedy_evaluation.orders:
        for repeat in range(params.remedy_evaluation.repeats):
            shared = np.random.default_rng([repeat, run.seed]).normal(0, 0.05, (n, len(t)))
            own = np.where(t > run.L0, rng.normal(0, 0.02, (n, len(t))), 0.0)  # nothing changes up to L0
            mse = level * difficulty[:, None] * np.exp(shared + own)
            rows.append(
                pl.DataFrame(
                    {
                        "run": run.run,
                        "seed": pl.Series([run.seed], dtype=pl.Int64),
                        "remedy": entry["name"],
                        "mode": entry["mode"],
                        "order": order,
                        "repeat": pl.Series([repeat], dtype=pl.Int64),
                    }
                ).join(
                    pl.DataFrame(
                        {
                            "image": np.repeat(images, len(t)),
                            "step": np.tile(t, n),
                            "mse": mse.ravel().astype(np.float32),
                        }
                    ),
                    how="cross",
                )
            )
    return pl.concat(rows)


def _retention(
    params: Params, run: RunConfig, entry: dict[str, Any], steps: list[int], psnr_at_L0: float
) -> pl.DataFrame:
    rows = []
    for t, psnr in zip(steps, true_level(entry["name"], np.array(steps), run.L0, psnr_at_L0), strict=True):
        for age in [*range(min(t, 31)), *([-1] if t < 16 else [])]:
            mse = 10 ** (-psnr / 10) * (1.6 if age < 0 else 0.6 + 0.2 * math.log2(1 + age))
            rows += [(order, t, age, mse, 20) for order in params.remedy_evaluation.orders]
    schema = {"order": pl.String, "step": pl.Int64, "age": pl.Int64, "mse": pl.Float64, "count": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").select(
        pl.lit(run.run).alias("run"),
        pl.lit(run.seed, pl.Int64).alias("seed"),
        pl.lit(entry["name"]).alias("remedy"),
        pl.lit(entry["mode"]).alias("mode"),
        pl.all(),
    )

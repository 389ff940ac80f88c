"""What the report says about the inside of trained runs, as plain values from the frames of the probes."""

from pathlib import Path
from typing import Any

import polars as pl

from lgmamba.analysis.numbers import mean
from lgmamba.config.study import Params
from lgmamba.report.wording import listed, number, signed, span

READ = ("explained", "groups", "remedy_effects", "content", "states", "distance")
MATTERS = 0.1
"""dB below which nothing is said to be lost or gained."""
INTERVENTIONS = {
    "size": "read at the norm that they have at L0",
    "clamp": "made to forget what they would grow",
    "hold": "held as they were at L0",
}
WORDS = {
    "step_size": "step sizes times L0/T",
    "spectrum_mult": "a scaled spectrum",
    "spectrum_pow": "a compressed spectrum",
    "longmamba": "LongMamba",
    "retain": "extra forgetting",
}


def probes_context(params: Params, frames: Path) -> dict[str, Any]:
    """Sentences and one table, each of the longest T of a run; means over seeds.

    Args:
        params: a study with `probes`.
        frames: folder written by `evaluate`.
    """
    found = {name: pl.read_parquet(frames / f"probes_{name}.parquet") for name in READ}
    longest = {name: frame.filter(pl.col("step") == pl.col("step").max().over("run")) for name, frame in found.items()}
    runs = [name for name in params.the_probes.runs if name in set(found["remedy_effects"]["run"])]
    return {
        "sentences": [
            sentence for run in runs for sentence in _sentences(run, {k: v.filter(run=run) for k, v in longest.items()})
        ],
        "rows": [row for run in runs for row in _rows(run, longest["remedy_effects"].filter(run=run))],
        "mean_distance_rows": listed(sorted(set(longest["distance"]["rows"]))),
    }


def _sentences(run: str, at: dict[str, pl.DataFrame]) -> list[str]:
    step, L0 = at["remedy_effects"]["step"][0], at["remedy_effects"]["L0"][0]
    plain = at["remedy_effects"].filter(remedy="none", layer=0).unique("seed")
    lost = mean(plain["psnr_L0"] - plain["psnr"])
    shares = at["explained"].filter(pl.col("layer") >= 0, estimator="mean", weighting="energy")
    memory, writes = (
        100 * shares.filter(account=name).group_by("layer", maintain_order=True).agg(pl.col("share").mean())["share"]
        for name in ("memory", "writes")
    )
    account = (
        f"`{run}`, T = {step} = {step / L0:g} L0. The forecast from sequences of length L0 explains {span(memory.to_list(), 0)} % "
        f"of the variance of the modes' growth (weighted by their share of the state; range over layers); with the "
        f"mean writes as they are measured up to T, the same decays explain {span(writes.to_list(), 0)} %."
    )
    if lost < MATTERS:
        return [f"{account} PSNR has changed by {signed(-lost)} dB since L0: nothing was lost."]
    gains = (
        at["groups"]
        .filter(pl.col("layer") == -1, pl.col("group") != "all")
        .group_by("group", "intervention", maintain_order=True)
        .agg(gain=(pl.col("psnr") - pl.col("plain")).mean())
        .sort("gain", descending=True, maintain_order=True)
    )
    best = gains.row(0, named=True)
    others = gains.filter(pl.col("group") != best["group"])["gain"].to_list()
    broken = (
        f"Of the {number(lost)} dB lost since L0, {number(best['gain'])} dB come back where the modes of {best['group']} memory alone are "
        f"{INTERVENTIONS[best['intervention']]}; acting on another group alone changes PSNR by {signed(max(others))} dB at best."
    )
    content = mean(at["content"].filter(layer=at["content"]["layer"].max(), read_out="refit")["psnr"])
    model = mean(plain["psnr"])
    there = (
        f"A linear read-out of the last layer's state fitted at T reaches {number(content)} dB, the model {number(model)} dB: "
        + ("the image is still in the state." if content > model + MATTERS else "the image is no longer in the state.")
    )
    return [f"{account} {broken} {there}"]


def _rows(run: str, effects: pl.DataFrame) -> list[dict[str, Any]]:
    """One row for each remedy: growth of the modes of long memory, forecast and measured, and PSNR."""
    long = effects.filter(group="long")
    rows = []
    for name in effects["remedy"].unique(maintain_order=True):
        here = long.filter(remedy=name)
        row = {"run": run, "remedy": WORDS.get(name, "none"), "step": effects["step"][0]}
        for key in ("predicted", "measured"):
            row[key] = here.select(pl.col(key).log().mean().exp()).item()  # geometric mean over layers and seeds
        rows.append(row | {"psnr": effects.filter(remedy=name)["psnr"].mean(), "psnr_L0": effects["psnr_L0"].mean()})
    return rows

"""What the report says about content and read-out, as plain values from the frames of the probes."""

from pathlib import Path
from typing import Any

import polars as pl

from lgmamba.config.study import Params
from lgmamba.report.wording import number

READ = ("read_outs",)
MATTERS = 0.1
"""dB below which nothing is said to be lost."""


def read_out_context(params: Params, frames: Path) -> dict[str, Any]:
    """Sentences, those at each run's longest length beyond L0 once more (far), and one table by run and length; means over seeds.

    Args:
        params: a study with the probe `read_outs`.
        frames: folder written by `evaluate`.
    """
    found = pl.read_parquet(frames / "probes_read_outs.parquet")
    wide = found.pivot("read_out", index=["run", "seed", "L0", "step", "features", "fit_images"], values="psnr")
    at_L0 = wide.filter(pl.col("step") == pl.col("L0")).select("run", "seed", content="refitted", drawn="trained")
    changes = wide.join(at_L0, on=["run", "seed"]).with_columns(
        content_change=pl.col("refitted") - pl.col("content"),
        drawn_change=pl.col("trained") - pl.col("drawn"),
        unread=pl.col("refitted") - pl.col("trained"),
    )
    means = changes.group_by("run", "L0", "step", "features", "fit_images", maintain_order=True).agg(
        pl.col("trained", "refitted", "refitted_at_L0", "content_change", "drawn_change", "unread").mean(),
        seeds=pl.len(),
    )
    order = {name: position for position, name in enumerate(params.the_probes.runs)}
    rows = sorted(means.to_dicts(), key=lambda row: (order[row["run"]], row["step"]))
    farthest = {row["run"]: row for row in rows if row["step"] > row["L0"]}  # the last of each run's ascending lengths
    return {
        "rows": rows,
        "sentences": [_sentence(row) for row in rows if row["step"] != row["L0"]],
        "far": [_sentence(row) for row in farthest.values()],
    }


def _sentence(row: dict[str, Any]) -> str:
    """What one run's numbers at one length say."""
    where = f"`{row['run']}` after {row['step']} steps ({row['step'] / row['L0']:g} L0)"
    found = f"its own read-out draws {number(row['trained'])} dB, one fitted there {number(row['refitted'])} dB"
    if row["step"] < row["L0"]:
        if row["unread"] > MATTERS:
            return f"{where}: {found}: {number(row['unread'])} dB are there and are not drawn."
        return f"{where}: {found}: what a linear read-out finds is drawn."
    lost, gone = -row["drawn_change"], -row["content_change"]
    if lost < MATTERS:
        return f"{where}: {found}: nothing is lost since L0."
    if gone <= 0:
        return (
            f"{where}: {found}. Since L0 its own loses {number(lost)} dB and the fitted one gains {number(-gone)} dB: the content is "
            "there, and it is the trained read-out that no longer finds it."
        )
    still = max(1 - gone / lost, 0.0)
    return (
        f"{where}: {found}. Since L0 its own loses {number(lost)} dB, the fitted one {number(gone)} dB: {100 * still:.0f} % of the loss "
        "is one of reading out, the rest one of content (as far as linear read-outs see it)."
    )

"""What the report says of wrong lengths that runs are told, as plain values from the frame of the probe `told_lengths`."""

from pathlib import Path
from typing import Any

import polars as pl

from lgmamba.analysis.told_lengths import told_changes
from lgmamba.config.study import Params

READ = ("told_lengths",)


def told_length_context(params: Params, frames: Path) -> dict[str, Any]:
    """Words for each wrong length, and one row for each run and T: own (level told T), changes of it in their order; means over seeds."""
    changes = told_changes(pl.read_parquet(frames / "probes_told_lengths.parquet"))
    factors = sorted(changes.filter(pl.col("factor") != 1)["factor"].unique().to_list())
    rows = []
    for name in params.the_probes.runs:
        for (step,), here in changes.filter(run=name).group_by("step", maintain_order=True):
            found = dict(here.select("factor", "change").rows())
            changed = [found.get(factor) for factor in factors]
            rows.append({"run": name, "step": step, "own": here["own"][0], "changes": changed})
    words = [f"{factor:.3g} T" if factor > 1 else f"T / {1 / factor:.3g}" for factor in factors]
    return {"words": words, "rows": rows}

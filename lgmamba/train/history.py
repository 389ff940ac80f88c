"""The history of a training: tidy rows, kept in memory, told to the tracker, written at the end. Glossary: `lgmamba.train`."""

import math
import statistics
from pathlib import Path
from typing import Any

from lgmamba.config.run import RunConfig
from lgmamba.frames import write_columns
from lgmamba.track import Tracker, metric_name


class History:
    """Values at logged steps.

    Args:
        run: whose history it is.
        tracker: told about every value.
        rows: of an interrupted attempt.
    """

    def __init__(self, run: RunConfig, tracker: Tracker, rows: list[dict[str, Any]]):
        self.run, self.tracker, self.rows = run, tracker, rows

    def add(self, step: int, values: dict[str, float]) -> None:
        """Values of one step, by metric."""
        self.rows += [{"step": step, "metric": m, "length": None, "value": v} for m, v in values.items()]
        self.tracker.log(step, values)

    def add_by_length(self, step: int, metric: str, values: dict[int, float]) -> None:
        """One metric of one step, by sequence length (patches)."""
        self.rows += [{"step": step, "metric": metric, "length": T, "value": v} for T, v in values.items()]
        self.tracker.log(step, {metric_name(metric, T): v for T, v in values.items()})

    def median(self, metric: str) -> float:
        """Over all logged steps."""
        return statistics.median(row["value"] for row in self.rows if row["metric"] == metric)

    def last(self, metric: str) -> float:
        """The value logged last."""
        return next(row["value"] for row in reversed(self.rows) if row["metric"] == metric)

    def by_length(self) -> list[str]:
        """Metrics that are kept by sequence length, in the order in which they were first logged."""
        return list(dict.fromkeys(row["metric"] for row in self.rows if row["length"] is not None))

    def last_by_length(self, metric: str) -> dict[str, float]:
        """The values logged last of a metric that is kept by sequence length."""
        rows = [row for row in self.rows if row["metric"] == metric]
        return {str(row["length"]): row["value"] for row in rows if row["step"] == rows[-1]["step"]}

    def write(self, path: Path) -> None:
        """history.parquet: run, seed, step (optimiser steps done), metric, length (patches, null where it has none), value."""
        import pyarrow as pa

        assert all(math.isfinite(row["value"]) for row in self.rows if row["metric"] == "loss")
        columns = {name: [row[name] for row in self.rows] for name in ("step", "metric", "length", "value")}
        columns["length"] = pa.array(columns["length"], pa.int64())  # also where every one is null
        write_columns(path, {"run": self.run.run, "seed": self.run.seed, **columns})

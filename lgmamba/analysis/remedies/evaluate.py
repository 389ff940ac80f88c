"""From the files of the stage `remedy` to frames."""

import polars as pl

from lgmamba.analysis.collect import RunFolder
from lgmamba.analysis.frames import retention_frame
from lgmamba.analysis.remedies import drawn
from lgmamba.analysis.remedies.collect import RemedyFolder, collect_remedies, load_readings, remedies_of
from lgmamba.analysis.remedies.frames import (
    RemedyEvidence,
    cost_frame,
    differences_frame,
    lengths_frame,
    levels_frame,
    seed_levels_frame,
)
from lgmamba.analysis.statistics import Trainings
from lgmamba.config.study import Params


def remedy_frames(params: Params, folders: list[RunFolder]) -> dict[str, pl.DataFrame]:
    """{name: frame} of a study that tries remedies, with those that its figures draw.

    Args:
        params: the study.
        folders: its trainings.
    Raises:
        CollectError: results are missing, or do not belong to the current configuration.
    """
    found = collect_remedies(params, folders)
    readings = load_readings(found)
    trainings = Trainings(readings.mse, params.claims.level, params.task.METRICS[0])
    evidence = RemedyEvidence(params, remedies_of(found), readings, trainings)
    levels, differences = levels_frame(evidence), differences_frame(evidence)
    rows = drawn.remedy_rows(params, levels, differences)
    return _retention(params, found, rows) | {
        "remedies": levels,
        "remedies_levels": seed_levels_frame(evidence),
        "remedies_differences": differences,
        "remedies_cost": cost_frame(found),
        "remedies_lengths": lengths_frame(found, params.the_extension),
        "figure_remedies": rows,
    }


def _retention(params: Params, found: list[RemedyFolder], rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """What is kept with each remedy, by age, of tasks whose steps show parts of the target."""
    if not params.task.TIED:
        return {}
    maps = [folder.folder.path / "remedies/retention.parquet" for folder in found]
    retention = retention_frame(maps, ("run", "remedy", "mode", "order", "step", "age"))
    memory = drawn.memory_rows(params, retention)
    return {
        "remedies_retention": retention,
        "remedies_memory": memory,
        "figure_remedies_retention": drawn.retention_rows(params, rows, memory),
    }

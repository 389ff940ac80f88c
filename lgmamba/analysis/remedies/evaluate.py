"""From the files of the stage `remedy` to frames."""

from collections.abc import Callable

import polars as pl

from lgmamba.analysis.collect import RunFolder
from lgmamba.analysis.frames import beside, names_classes, retention_frame
from lgmamba.analysis.remedies import figure_data
from lgmamba.analysis.remedies.collect import RemedyFolder, collect_remedies, load_evaluations, remedies_of
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
from lgmamba.metrics import ACCURACY


def remedy_frames(params: Params, folders: list[RunFolder]) -> dict[str, pl.DataFrame]:
    """{name: frame} of a study that tries remedies, with those that its figures draw.

    Args:
        params: the study.
        folders: its trainings.
    Raises:
        CollectError: results are missing, or do not belong to the current configuration.
    """
    found = collect_remedies(params, folders)
    evaluations = load_evaluations(found)
    trainings = Trainings(evaluations.mse, params.claims.level, params.task.METRICS[0])
    evidence = RemedyEvidence(params, remedies_of(found), evaluations, trainings)
    named = _class_evidence(params, found)
    levels, differences, seeds = (
        _with_accuracy(frame, evidence, named) for frame in (levels_frame, differences_frame, seed_levels_frame)
    )
    rows = figure_data.remedy_rows(params, levels, differences)
    return _retention(params, found, rows) | {
        "remedies": levels,
        "remedies_levels": seeds,
        "remedies_differences": differences,
        "remedies_cost": cost_frame(found),
        "remedies_lengths": lengths_frame(found, params.the_remedy_evaluation),
        "figure_remedies": rows,
    }


def _retention(params: Params, found: list[RemedyFolder], rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """What is kept with each remedy, by age, of tasks whose steps show parts of the target."""
    if not params.task.TIED:
        return {}
    maps = [folder.folder.path / "remedies/retention.parquet" for folder in found]
    retention = retention_frame(maps, ("run", "remedy", "mode", "order", "step", "age"))
    memory = figure_data.memory_rows(params, retention)
    return {
        "remedies_retention": retention,
        "remedies_memory": memory,
        "figure_remedies_retention": figure_data.retention_rows(params, rows, memory),
    }


def _class_evidence(params: Params, folders: list[RemedyFolder]) -> RemedyEvidence | None:
    """The evidence in accuracy, of the runs that name a class; None where none does."""
    naming = [folder for folder in folders if names_classes(folder.folder.config)]
    if not naming:
        return None
    evaluations = load_evaluations(naming, ACCURACY.name)
    return RemedyEvidence(
        params, remedies_of(naming), evaluations, Trainings(evaluations.mse, params.claims.level, ACCURACY)
    )


COLUMNS: dict[Callable[[RemedyEvidence], pl.DataFrame], tuple[str, ...]] = {
    levels_frame: ("psnr", "psnr_lo", "psnr_hi", "seeds_lo", "seeds_hi"),
    differences_frame: ("effect", "effect_lo", "effect_hi"),
    seed_levels_frame: ("value",),
}
"""Frame -> its columns of which accuracy has the same."""


def _with_accuracy(
    frame: Callable[[RemedyEvidence], pl.DataFrame], evidence: RemedyEvidence, named: RemedyEvidence | None
) -> pl.DataFrame:
    own, columns = frame(evidence), COLUMNS[frame]
    keys = ("run", "seed", "order", "remedy", "method", "mode", "step", "against")
    on = [name for name in keys if name in own.columns]
    found = beside(own, None if named is None else frame(named), on, columns)
    return found.rename({"accuracy_value": ACCURACY.level}, strict=False)

"""From run folders to small frames: collect, statistics, claims. Nothing here is imported with the package itself.

collect      which run folders belong to the study, and whether each may be believed
kept         frames kept beside the report, and whether they are those of the configuration
statistics   levels of trainings, differences, Student's intervals
retention    what the retention maps say in numbers
contrasts    the primary contrasts: effect, interval over trainings, verdict
frames       the tidy frames of the study
image_errors errors of single images, of a fixed sample of them
probes      what the probes found inside trained runs
remedies     what remedies do beyond the training length
figure_data  the frames that the figures draw, row for row
shown        which runs are drawn one by one
exchange     what the class costs the picture, of runs that differ in the weight of classification
frontier     conflict gaps, exchange area and synergy, as pure functions
theory       the closed form of one layer beside what it was measured to do
mixers       several sequence mixers side by side
asked        errors of single queries, of tasks that ask
panel        pictures: what every run draws of the same images, step after step
strips       how they are packed
titles       what the figures are called
evaluate     all of it, in order
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lgmamba.config.study import Params


def _always(params: Params) -> bool:
    return True


def _has_images(params: Params) -> bool:
    return params.task.IMAGES


def _maps_runs(params: Params) -> bool:
    return params.task.TIED and params.report.retention == "maps"


def _has_theory(params: Params) -> bool:
    from lgmamba.analysis.families import is_bare

    return any(is_bare(run) and run.task.lengths.kind == "fixed" for run in params.runs_by_name().values())


def _tries_remedies(params: Params) -> bool:
    return params.remedy_evaluation is not None


def _maps_remedies(params: Params) -> bool:
    return _tries_remedies(params) and params.task.TIED


def _probes_inside(params: Params) -> bool:
    return params.probes is not None and params.probes.all_inside


def reads_out(params: Params) -> bool:
    """Whether a study refits read-outs of frozen models."""
    return params.probes is not None and "read_outs" in params.probes.kinds


def tells_lengths(params: Params) -> bool:
    """Whether a study tells runs wrong lengths."""
    return params.probes is not None and "told_lengths" in params.probes.kinds


def _writes(frame: str) -> Callable[[Params], bool]:
    """Whether a study has the probe that makes a frame of the stage `probes`."""
    return lambda params: params.probes is not None and frame in params.probes.frames


def _asks(params: Params) -> bool:
    return "asked" in params.task.DETAILS


def _compares_budgets(params: Params) -> bool:
    from lgmamba.analysis.families import several_budgets

    return several_budgets(params)


def _compares_forms(params: Params) -> bool:
    from lgmamba.analysis.families import several_forms

    return several_forms(params)


def _compares_mixers(params: Params) -> bool:
    from lgmamba.analysis.families import several_mixers

    return several_mixers(params)


def _compares_one_form_each(params: Params) -> bool:
    return bool(params.claims.comparisons) and not _compares_forms(params)


def _trades_classes(params: Params) -> bool:
    from lgmamba.analysis.families import trades_classes

    return trades_classes(params)


FIGURE_CONDITIONS: dict[str, Callable[[Params], bool]] = {
    "task": _has_images,
    "curves": _always,
    "gallery": _has_images,
    "retention": _maps_runs,
    "asked": _asks,
    "envelope": _compares_one_form_each,
    "budget": _compares_budgets,
    "forms": _compares_forms,
    "degradation": _always,
    "mixers": _compares_mixers,
    "theory": _has_theory,
    "remedies": _tries_remedies,
    "remedies_retention": _maps_remedies,
    "read_outs": reads_out,
    "modes": _probes_inside,
    "states": _probes_inside,
    "receptive_field": _probes_inside,
    "training": _always,
    "lengths": _always,
}
"""Figure -> whether a study has it, in the order of the report. A figure draws the frame figure_<name>."""

FRAME_CONDITIONS: dict[str, Callable[[Params], bool]] = {
    "curves": _always,
    "summary": _always,
    "retention": _maps_runs,
    "history": _always,
    "lengths": _always,
    "envelope": _always,
    "degradation": _always,
    "regret": _always,
    "contrasts": _always,
    "image_errors": _always,
    "image_errors_of": _always,
    "exchange": _trades_classes,
    "asked": _asks,
    "asked_written": _asks,
    "asked_told": _asks,
    "runs": _always,
    "remedies": _tries_remedies,
    "remedies_levels": _tries_remedies,
    "remedies_differences": _tries_remedies,
    "remedies_cost": _tries_remedies,
    "remedies_lengths": _tries_remedies,
    "remedies_retention": _maps_remedies,
    "remedies_memory": _maps_remedies,
    "probes_attention": _writes("attention"),
    "probes_distance": _writes("distance"),
    "probes_receptive_field": _writes("receptive_field"),
    "probes_memory": _writes("memory"),
    "probes_states": _writes("states"),
    "probes_cycles": _writes("cycles"),
    "probes_content": _writes("content"),
    "probes_modes": _writes("modes"),
    "probes_explained": _writes("explained"),
    "probes_groups": _writes("groups"),
    "probes_remedy_effects": _writes("remedy_effects"),
    "probes_read_outs": _writes("read_outs"),
    "probes_told_lengths": _writes("told_lengths"),
}
"""Frame that is more than what one figure draws -> whether a study has it."""

WITH_PICTURES = ("task", "gallery")
"""Figures that also show panel.safetensors."""

NOT_KEPT: tuple[str, ...] = ("retention", "history", "lengths", "degradation", "regret", "asked", "remedies_retention")
NOT_KEPT += tuple(f"probes_{name}" for name in ("attention", "receptive_field", "memory", "cycles", "modes"))
"""Frames that neither a figure nor the report reads."""

FOR_READERS = ("image_errors.parquet", "image_errors_of.parquet")
"""Files that neither reads and that are kept all the same, for those who compute again; what was kept before there were such has none."""


def figures_of(params: Params) -> tuple[str, ...]:
    """Names of the figures of a study, in the order of the report."""
    return tuple(name for name, has in FIGURE_CONDITIONS.items() if has(params))


def folders_read(params: Params) -> tuple[str, ...]:
    """The folders that frames are made from, below the study's results."""
    found = []
    for run, seed in params.run_configs():
        names = ["train", "evaluation"]
        names += ["remedies"] if params.remedy_evaluation is not None and run in params.remedy_evaluation.runs else []
        names += ["probes"] if params.probes is not None and run in params.probes.runs else []
        found += [f"runs/{run}/seed{seed}/{name}" for name in names]
    return tuple(found)


def frames_of(params: Params) -> tuple[str, ...]:
    """Every file that `evaluate.evaluate` writes for a study."""
    frames = [name for name, has in FRAME_CONDITIONS.items() if has(params)]
    frames += [f"figure_{name}" for name in figures_of(params)]
    pictures = ("panel.safetensors",) if _has_images(params) else ()
    return (*(f"{name}.parquet" for name in frames), *pictures, "contrasts.json")


def frames_drawn(figure: str) -> tuple[str, ...]:
    """The files of `frames_of` that a figure is made from."""
    return (f"figure_{figure}.parquet", *(["panel.safetensors"] if figure in WITH_PICTURES else []))


def kept_frames(params: Params) -> tuple[str, ...]:
    """The files of `frames_of` that figures and report read: with them, they can be made again without any run."""
    left = {*(f"{name}.parquet" for name in NOT_KEPT), *FOR_READERS, "contrasts.json"}
    return tuple(name for name in frames_of(params) if name not in left)

"""Figures: pure functions of the frames in `lgmamba.analysis.figure_data`, one module each."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from lgmamba.analysis import WITH_PICTURES, figures_of, frames_drawn
from lgmamba.analysis.collect import load_study
from lgmamba.analysis.panel import read_panel
from lgmamba.analysis.shown import runs_first_drawn, shown_rows
from lgmamba.config.base import ConfigError
from lgmamba.figures.asked import fig_asked
from lgmamba.figures.budget import fig_budget
from lgmamba.figures.curves import fig_curves
from lgmamba.figures.degradation import fig_degradation
from lgmamba.figures.envelope import fig_envelope
from lgmamba.figures.forms import fig_forms
from lgmamba.figures.gallery import fig_gallery
from lgmamba.figures.lengths import fig_lengths
from lgmamba.figures.mixers import fig_mixers
from lgmamba.figures.modes import fig_modes
from lgmamba.figures.read_outs import fig_read_outs
from lgmamba.figures.receptive_field import fig_receptive_field
from lgmamba.figures.remedies import fig_remedies, fig_remedies_retention
from lgmamba.figures.retention import fig_retention
from lgmamba.figures.states import fig_states
from lgmamba.figures.style import Style, save_figure, use_style
from lgmamba.figures.task import fig_task
from lgmamba.figures.theory import fig_theory
from lgmamba.figures.training import fig_training
from lgmamba.keys import figure_key
from lgmamba.records import begin, checked_all, finish, read_record

FIGURES: dict[str, Callable[..., Figure]] = {
    "task": fig_task,
    "curves": fig_curves,
    "gallery": fig_gallery,
    "retention": fig_retention,
    "asked": fig_asked,
    "envelope": fig_envelope,
    "budget": fig_budget,
    "forms": fig_forms,
    "degradation": fig_degradation,
    "mixers": fig_mixers,
    "theory": fig_theory,
    "remedies": fig_remedies,
    "remedies_retention": fig_remedies_retention,
    "read_outs": fig_read_outs,
    "modes": fig_modes,
    "states": fig_states,
    "receptive_field": fig_receptive_field,
    "training": fig_training,
    "lengths": fig_lengths,
}

SUFFIXES = ("png", "pdf", "csv")


def draw(name: str, study_json: Path, frames: Path, out: Path) -> None:
    """Draw one figure: <out>/<name>.png, .pdf and .csv, and last its record.

    Args:
        name: one of `lgmamba.analysis.figures_of` the study.
        study_json: the study's resolved parameters; which runs are shown, and their order, decides their colours.
        frames: folder written by `evaluate`.
        out: folder of the figures.
    Raises:
        ConfigError: no figure of this study; lists those that it has.
        ArtefactError: a frame is missing or damaged.
    """
    params = load_study(study_json)
    if name not in (known := figures_of(params)):
        raise ConfigError(f"figure={name!r} is unknown; expected one of {', '.join(known)}")
    use_style()
    style = Style(runs_first_drawn(params), params.task)
    record, read = read_record(frames, "evaluate"), checked_all(frames, frames_drawn(name), "evaluate")
    first, *others = read.values()  # the frame that is drawn, and what else that needs
    frame = shown_rows(params, name, pl.read_parquet(first))
    more = [pl.read_parquet(path) if path.suffix == ".parquet" else read_panel(path) for path in others]
    begin(out, name)
    save_figure(FIGURES[name](frame, style, *more), frame, name, out, pictures=name in WITH_PICTURES)
    finish(figure_key(params, record, frames_drawn(name)), out, [f"{name}.{suffix}" for suffix in SUFFIXES], name)

"""Which runs are drawn one by one: those that `report.shown` names. Frames and tables have all; rows are left out here alone.

Figures that set runs side by side (`COMPARING`) show every run whatever is named: what they draw is the comparison.
"""

import polars as pl

from lgmamba.config.study import Params

COMPARING = ("task", "exchange", "envelope", "budget", "forms", "mixers", "theory")
"""Figures about the study as a whole; task shows what a run is asked for, by one or two of them."""
MANY_RUNS = 24
"""Runs up to which figures that draw all of them one by one can be read."""


def drawn_runs(params: Params) -> list[str]:
    """The runs that are drawn one by one, in the order of the study."""
    shown = params.report.shown
    return [name for name in params.runs if shown is None or name in shown]


def runs_first_drawn(params: Params) -> list[str]:
    """All runs, those drawn one by one first: the order in which they get their looks, so that no two drawn ones look alike."""
    drawn = drawn_runs(params)
    return [*drawn, *(name for name in params.runs if name not in drawn)]


def is_selection(params: Params, figure: str) -> bool:
    """Whether a figure leaves out runs that it would draw if none were named."""
    return figure not in COMPARING and not set(_runs_of(params, figure)) <= set(drawn_runs(params))


def shown_rows(params: Params, figure: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of figure_<figure> that are drawn: of runs that are shown, and of no run (baselines, patches read).

    Args:
        frame: with a column run, or runs, comma separated.
    """
    if not is_selection(params, figure):
        return frame
    drawn = drawn_runs(params)
    if "runs" in frame.columns:
        named = pl.col("runs").str.split(",")
        left = frame.with_columns(named.list.set_intersection(drawn).list.join(","))
        return left.filter(pl.col("runs") != "")
    return frame.filter(pl.col("run").is_null() | pl.col("run").is_in(drawn))


def _runs_of(params: Params, figure: str) -> list[str]:
    if figure.startswith("remedies"):
        return params.the_remedy_evaluation.runs
    if figure in ("read_outs", "modes", "states", "receptive_field"):
        return params.the_probes.runs
    return list(params.runs)

"""Where a report's pages lead into the explorer: the view that shows what a figure or a claim is about."""

from lgmamba.analysis import figures_of
from lgmamba.analysis.remedies import VANILLA, VANILLA_STREAM
from lgmamba.analysis.shown import drawn_runs
from lgmamba.config.claims import Contrast
from lgmamba.config.remedies import ORACLES
from lgmamba.config.study import Params
from lgmamba.explorer import link
from lgmamba.explorer.data import MOST_RUNS, first_runs

MOMENTS = {"task": 1 / 4, "curves": 1 / 4, "gallery": 1 / 2, "retention": 1, "degradation": 4}
"""Figure -> the step that its view begins at, in units of the study's L0."""
NO_CHOICE = (VANILLA, VANILLA_STREAM, *ORACLES)
"""Rows of remedies that the explorer has no choice for."""


def figure_views(params: Params, best: str | None = None) -> dict[str, str]:
    """{figure: address}, of the figures that the explorer brings to life.

    Args:
        best: the remedy that does best, which the figure of remedies is seen under; None: there is none.
    """
    shown = first_runs(params)
    views = {name: link(params, shown, MOMENTS[name] * params.L0) for name in figures_of(params) if name in MOMENTS}
    drawn = set(drawn_runs(params))
    tried = [] if params.remedy_evaluation is None else [run for run in params.remedy_evaluation.runs if run in drawn]
    if best is not None and tried:
        first = tried[:MOST_RUNS]
        L0 = min(params.runs_by_name()[run].L0 for run in first)
        views["remedies"] = link(params, first, max(params.the_remedy_evaluation.length_ratios) * L0, best)
    return views


def claim_views(params: Params) -> dict[str, str]:
    """{name of a primary contrast: address} of those about runs that the explorer has, at one of the lengths that they name; and under
    the remedy that they are about, where it is one.
    """
    drawn = drawn_runs(params)
    return {
        contrast.name: _view(params, contrast)
        for contrast in params.claims.primary
        if {contrast.of.run, contrast.minus.run} <= set(drawn)
        and (not contrast.of.treated or _remedy(contrast) is not None)
    }


def _view(params: Params, contrast: Contrast) -> str:
    L0 = params.runs_by_name()[contrast.of.run].L0
    steps = contrast.of.steps(L0)
    return link(
        params, [contrast.of.run, contrast.minus.run], steps[len(steps) // 2], _remedy(contrast), contrast.of.order
    )


def _remedy(contrast: Contrast) -> str | None:
    """The one remedy or control that a contrast is about; of several none."""
    named = [side.remedy for side in (contrast.of, contrast.minus) if side.remedy not in (None, *NO_CHOICE)]
    return named[0] if named else None

"""Where a report's pages lead into the explorer: the view that shows what a figure or a claim is about."""

from lgmamba.analysis import figures_of
from lgmamba.analysis.shown import drawn_runs
from lgmamba.config.claims import Contrast
from lgmamba.config.study import Params
from lgmamba.explorer import link
from lgmamba.explorer.data import first_runs

MOMENTS = {"task": 1 / 4, "curves": 1 / 4, "gallery": 1 / 2, "retention": 1, "degradation": 4}
"""Figure -> the step that its view begins at, in units of the study's L0."""


def figure_views(params: Params) -> dict[str, str]:
    """{figure: address}, of the figures that the explorer brings to life."""
    shown = first_runs(params)
    return {name: link(params, shown, MOMENTS[name] * params.L0) for name in figures_of(params) if name in MOMENTS}


def claim_views(params: Params) -> dict[str, str]:
    """{name of a primary contrast: address} of those about runs as they are, at one of the lengths that they name, both of which
    the explorer has.
    """
    drawn = drawn_runs(params)
    return {
        contrast.name: _view(params, contrast)
        for contrast in params.claims.primary
        if not contrast.of.treated and {contrast.of.run, contrast.minus.run} <= set(drawn)
    }


def _view(params: Params, contrast: Contrast) -> str:
    L0 = params.runs_by_name()[contrast.of.run].L0
    steps = contrast.of.steps(L0)
    return link(params, [contrast.of.run, contrast.minus.run], steps[len(steps) // 2])

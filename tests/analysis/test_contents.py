"""Which figures and frames a study has."""

import pytest

from lgmamba import analysis
from lgmamba.analysis import figures_of, frames_of
from lgmamba.config.study import Params
from lgmamba.figures import draw
from tests.analysis.synthetic_study import study_values


def test_a_study_has_what_its_conditions_say(monkeypatch: pytest.MonkeyPatch):
    params = Params.model_validate(study_values())
    assert figures_of(params)[:3] == ("task", "curves", "gallery")
    assert {"curves.parquet", "figure_curves.parquet", "contrasts.json"} <= set(frames_of(params))
    monkeypatch.setitem(analysis.FIGURE_CONDITIONS, "curves", lambda p: p.study != "synthetic")
    monkeypatch.setitem(analysis.FRAME_CONDITIONS, "envelope", lambda p: p.study != "synthetic")
    assert figures_of(params)[:2] == ("task", "gallery")
    assert not {"envelope.parquet", "figure_curves.parquet"} & set(frames_of(params))
    assert "curves.parquet" in frames_of(params)


def test_a_figure_that_the_study_lacks_is_not_drawn(study, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(analysis.FIGURE_CONDITIONS, "curves", lambda p: False)
    with pytest.raises(ValueError, match="figure='curves' is unknown; expected one of task, gallery"):
        draw("curves", study.study, study.frames, tmp_path)

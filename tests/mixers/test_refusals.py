"""What else a study asks of a mixer that it does not have: a look into it, and to be told a length."""

import pytest

from lgmamba.config.base import validate
from lgmamba.config.study import Params
from lgmamba.mixers.table import configured
from tests.config.studies import error, with_mixer
from tests.remedies.contract import OTHERS


@pytest.mark.parametrize("name", OTHERS)
def test_a_look_that_a_mixer_does_not_have_is_refused_before_any_job(name):
    wrong = with_mixer(OTHERS[name], remedies=[]) | {"remedy_evaluation": None}
    wrong["probes"] |= {"runs": ["other"]}
    mixer = configured(OTHERS[name])
    if "attention" in mixer.supports:
        assert validate(Params, wrong, "params.yaml").probes.runs == ["other"]
        return
    message = error(wrong)
    assert "probes.runs.0: found 'other', which cannot be looked into" in message
    assert f"not defined for mixer {mixer.kind}: no attention" in message


@pytest.mark.parametrize(
    ("adaptive", "found"),
    [({"kind": "dt_bias"}, "adaptive.kind: found dt_bias"), ({"kind": "both"}, "adaptive.kind: found both")],
)
def test_what_a_length_adaptive_model_tells_its_mixer_must_be_something_that_it_has(adaptive, found):
    wrong = with_mixer(OTHERS["gru"], remedies=[])
    told = {"features": "T", "hidden": 8, "beyond": "rescale"}
    wrong["runs"]["other"]["model"]["adaptive"] = told | adaptive
    assert found in error(wrong)
    wrong["runs"]["other"]["model"]["adaptive"] = told | {"kind": "film"}
    assert validate(Params, wrong, "params.yaml").runs_by_name()["other"].model.adaptive.kind == "film"

"""Every remedy on every mixer: it acts beyond the training length and nowhere else, or it is refused with the reason."""

from functools import cache
from types import SimpleNamespace

import pytest
import torch

from lgmamba.config.base import validate
from lgmamba.config.remedies import check_mixers
from lgmamba.config.study import Params
from lgmamba.mixers.registry import MIXERS
from lgmamba.model.runner import run_sequence
from lgmamba.remedies.registry import build, calibrate
from tests.config.studies import error, values
from tests.mixers.contract import ROWS
from tests.model.models import EXACT, along, exact
from tests.remedies import test_build as remedies
from tests.remedies.entries import ALL, entry
from tests.remedies.entries import values as as_written

OTHERS = {
    kind: next(row.mixer for row in ROWS.values() if row.mixer["kind"] == kind) for kind in MIXERS if kind != "mamba"
}
"""Mamba's own pairs are in `tests/remedies/test_build.py`, and none is refused."""
MORE = {
    ("decimamba", "random"): {"layers": [1]},  # without a search of the layer by step sizes
    ("step_size", "layer"): {"calibrate": "none", "factor": 0.5},  # without the closed form
}
"""What lets an entry do with fewer verbs."""


@cache
def model(kind: str):
    return exact(mixer=OTHERS[kind]).requires_grad_(False)


def with_mixer(mixer: dict, **more) -> dict:
    """A study one of whose runs has another mixer."""
    wrong = values(remedy_evaluation={"runs": ["other"]}, probes={"runs": ["plain"]}, **more)
    wrong["runs"]["other"] = {"model": {"mixer": mixer, "adaptive": None, "d_model": 12}}
    return wrong


def off_one(values: dict) -> dict:
    """A search may find that 1 is best."""
    T = values.get("T", {})
    moved = {T: found | {"factors": [0.7] * len(found["factors"])} for T, found in T.items() if "factors" in found}
    return values | {"T": T | moved} if moved else values


CALIBRATION = {"steps": 1, "lengths": [2]}
"""As little as will do: how well calibration finds is tested on Mamba."""
CHUNK = 20
STEPS = [3, remedies.L0, remedies.LAST]
SHORT = 2


@cache
def vanilla(kind: str, mode: str) -> torch.Tensor:
    patches, cells, _ = remedies.images()
    return run_sequence(model(kind), along(patches, cells), STEPS, mode, CHUNK)


@pytest.mark.parametrize(("kind", "key", "mode"), [(kind, *pair) for kind in OTHERS for pair in ALL], ids=str)
def test_a_remedy_acts_beyond_the_training_length_or_is_refused_with_the_reason(kind, key, mode, monkeypatch):
    tried = entry(key, mode, **MORE.get(key, {}))
    reason = model(kind).config.mixer.refusal(tried.requires)
    if reason is not None:
        run = SimpleNamespace(model=model(kind).config)
        with pytest.raises(ValueError) as e:
            check_mixers([tried], {"other": run})
        found = f"remedies.0: found 'tried' of kind {key[0]}, but run 'other' has mixer {kind}, which has {reason}"
        assert found in str(e.value)
        return
    monkeypatch.setattr(remedies, "model", lambda name="plain": model(kind))
    values = {}
    if tried.calibrated:
        values["tried"] = off_one(calibrate(tried, remedies.calibration_set("plain", **CALIBRATION)).values)
    made = build(tried, [tried], values, model(kind), remedies.LAST)
    found, plain = remedies.read(made, STEPS, chunk=CHUNK), vanilla(kind, mode)
    torch.testing.assert_close(found[:, :SHORT], plain[:, :SHORT], **EXACT)
    assert (found[:, -1] - plain[:, -1]).abs().max() > 1e-6


@pytest.mark.parametrize("kind", OTHERS)
def test_an_entry_that_needs_more_than_a_mixer_has_is_refused_with_the_study(kind):
    needs = {
        (key, mode): reason
        for key, mode in ALL
        if (reason := model(kind).config.mixer.refusal(entry(key, mode).requires))
    }
    if not needs:
        return
    (key, mode), reason = next(iter(needs.items()))
    message = error(with_mixer(OTHERS[kind], remedies=[as_written(key, mode)]))
    assert f"run 'other' has mixer {kind}, which has {reason}" in message


@pytest.mark.parametrize("kind", OTHERS)
def test_controls_act_on_every_mixer_or_are_refused_with_the_reason(kind, monkeypatch):
    if reason := model(kind).config.mixer.refusal(["reset", "mask"]):
        assert f"'other', but controls cannot be read with its mixer: {reason}" in error(
            with_mixer(OTHERS[kind], remedies=[])
        )
        return
    monkeypatch.setattr(remedies, "model", lambda name="plain": model(kind))
    for control in remedies.control_remedies(model(kind), remedies.DrawConfig):
        found, plain = remedies.read(control, STEPS, chunk=CHUNK), vanilla(kind, control.mode)
        torch.testing.assert_close(found[:, :SHORT], plain[:, :SHORT], **EXACT)
        assert (found[:, -1] - plain[:, -1]).abs().max() > 1e-6


@pytest.mark.parametrize("kind", OTHERS)
def test_a_look_that_a_mixer_does_not_have_is_refused_before_any_job(kind):
    wrong = with_mixer(OTHERS[kind], remedies=[]) | {"remedy_evaluation": None}
    wrong["probes"] |= {"runs": ["other"]}
    if "attention" in model(kind).config.mixer.supports:
        assert validate(Params, wrong, "params.yaml").probes.runs == ["other"]
        return
    message = error(wrong)
    assert "probes.runs.0: found 'other', which cannot be looked into" in message
    assert f"not defined for mixer {kind}: no attention" in message


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

"""Every remedy on every mixer: it acts beyond the training length and nowhere else, or it is refused with the reason."""

from types import SimpleNamespace

import pytest
import torch

from lgmamba.config.remedies import check_mixers
from lgmamba.mixers.registry import MIXERS
from lgmamba.remedies.configs import MODES
from lgmamba.remedies.read import read_with
from lgmamba.remedies.registry import KINDS, build, calibrate, control_remedies
from lgmamba.tasks.draw.config import DrawConfig
from tests.config.studies import error, with_mixer
from tests.model.models import EXACT, L0, G, along
from tests.remedies.contract import (
    ALL,
    FORMS,
    LAST,
    LONG,
    MAMBA,
    OTHERS,
    SHORT,
    calibration_set,
    entry,
    images,
    model,
    read,
    remedy,
    vanilla,
)
from tests.remedies.contract import values as as_written

MORE = {
    ("decimamba", "random"): {"layers": [1]},  # without a search of the layer by step sizes
    ("step_size", "layer"): {"calibrate": "none", "factor": 0.5},  # without the closed form
}
"""What lets an entry do with fewer verbs."""
CALIBRATION = {"steps": 1, "lengths": [2]}
"""As little as will do: how well calibration finds is tested on Mamba."""
FEW = (3, L0, LAST)
"""Steps that other mixers are read at, all but the last within the training length."""
CHUNK = 20

others = pytest.mark.parametrize("name", OTHERS)


def test_every_kind_and_form_has_an_entry_and_every_mixer_a_model():
    assert set(FORMS) == set(MODES) and {kind for kind, _ in FORMS} == set(KINDS)
    assert {mixer["kind"] for mixer in OTHERS.values()} == set(MIXERS) - {"mamba"}


@pytest.mark.parametrize("name", MAMBA)
@pytest.mark.parametrize(("key", "mode"), ALL, ids=str)
def test_up_to_the_training_length_nothing_changes_and_beyond_it_something_does(key, mode, name):
    found, plain = read(remedy(key, mode, name), SHORT + LONG, name), vanilla(mode, (*SHORT, *LONG), name)
    torch.testing.assert_close(found[:, : len(SHORT)], plain[:, : len(SHORT)], **EXACT)
    assert (found[:, -1] - plain[:, -1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", MAMBA)
def test_controls_are_the_identity_up_to_the_training_length(name):
    for control in control_remedies(model(name), DrawConfig):
        found, plain = read(control, SHORT + LONG, name), vanilla(control.mode, (*SHORT, *LONG), name)
        torch.testing.assert_close(found[:, : len(SHORT)], plain[:, : len(SHORT)], **EXACT)
        assert (found[:, -1] - plain[:, -1]).abs().max() > 1e-4


@pytest.mark.parametrize(("key", "mode"), ALL, ids=str)
def test_how_steps_are_grouped_and_what_is_read_with_an_image_changes_nothing(key, mode):
    found = read(remedy(key, mode), LONG)
    torch.testing.assert_close(read(remedy(key, mode), LONG, chunk=1), found, **EXACT)
    torch.testing.assert_close(read(remedy(key, mode), LONG, chunk=LAST), found, **EXACT)
    if key != ("decimamba", "random"):  # whose steps are drawn for a batch
        alone = read(remedy(key, mode), LONG, some=slice(1, 2))
        torch.testing.assert_close(alone, found[1:2], **EXACT)


@pytest.mark.parametrize(("key", "mode"), ALL, ids=str)
def test_nothing_after_a_step_has_an_effect_on_it(key, mode):
    patches, cells, random_scores = images()
    other = cells.clone()
    other[:, 2 * L0 :] = (other[:, 2 * L0 :] + 1) % G
    steps = [L0 + 1, 2 * L0]
    found = remedy(key, mode)
    last = [*steps, LAST]  # a stream is read to its end, so that the changed steps are read too
    one, two = (read_with(model(), found, along(patches, c), random_scores, last, 7) for c in (cells, other))
    torch.testing.assert_close(two[:, :2], one[:, :2], rtol=0, atol=0)
    assert not torch.equal(two[:, 2], one[:, 2])


def off_one(values: dict) -> dict:
    """A search may find that 1 is best."""
    T = values.get("T", {})
    moved = {T: found | {"factors": [0.7] * len(found["factors"])} for T, found in T.items() if "factors" in found}
    return values | {"T": T | moved} if moved else values


def acts(found, name: str) -> None:
    """The identity up to the training length, and something else beyond it."""
    got, plain = read(found, list(FEW), name, CHUNK), vanilla(found.mode, FEW, name, CHUNK)
    torch.testing.assert_close(got[:, :-1], plain[:, :-1], **EXACT)
    assert (got[:, -1] - plain[:, -1]).abs().max() > 1e-6


@pytest.mark.parametrize(("name", "key", "mode"), [(name, *pair) for name in OTHERS for pair in ALL], ids=str)
def test_a_remedy_acts_beyond_the_training_length_or_is_refused_with_the_reason(name, key, mode):
    tried, config = entry(key, mode, **MORE.get(key, {})), model(name).config
    reason = tried.refusal(config.mixer)
    if reason is not None:
        with pytest.raises(ValueError) as e:
            check_mixers([tried], {"other": SimpleNamespace(model=config)})
        found = f"remedies.0: found 'tried' of kind {key[0]}, but run 'other' has mixer {config.mixer.kind}, which has {reason}"
        assert found in str(e.value)
        return
    values = {}
    if tried.calibrated:
        values["tried"] = off_one(calibrate(tried, calibration_set(name, **CALIBRATION)).values)
    acts(build(tried, [tried], values, model(name), LAST), name)


@others
def test_an_entry_that_needs_more_than_a_mixer_has_is_refused_with_the_study(name):
    mixer = model(name).config.mixer
    needs = {(key, mode): reason for key, mode in ALL if (reason := entry(key, mode).refusal(mixer))}
    if not needs:
        return
    (key, mode), reason = next(iter(needs.items()))
    message = error(with_mixer(OTHERS[name], remedies=[as_written(key, mode)]))
    assert f"run 'other' has mixer {mixer.kind}, which has {reason}" in message


@others
def test_controls_act_on_every_mixer_or_are_refused_with_the_reason(name):
    if reason := model(name).config.mixer.refusal(["reset", "mask"]):
        assert f"'other', but controls cannot be read with its mixer: {reason}" in error(
            with_mixer(OTHERS[name], remedies=[])
        )
        return
    for control in control_remedies(model(name), DrawConfig):
        acts(control, name)


def test_phases_are_left_as_they_are_where_a_mixer_turns_them_and_refused_elsewhere():
    """On Mamba-3, whose steps turn phases; uniform and in a stream."""
    for form, mode in (("uniform", "prefix"), ("power", "stream")):
        whole, without = entry(("step_size", form), mode), entry(("step_size", form), mode, phase="kept")
        found = [build(tried, [tried], {}, model("mamba3"), LAST) for tried in (whole, without)]
        acts(found[1], "mamba3")
        apart = read(found[0], [LAST], "mamba3") - read(found[1], [LAST], "mamba3")
        assert apart.abs().max() > 1e-6
        reason = "no phases that could be left as they are (phase: kept)"
        assert {name: without.refusal(model(name).config.mixer) for name in ("plain", "s4d", "mamba3")} == {
            "plain": reason,
            "s4d": reason,
            "mamba3": None,
        }

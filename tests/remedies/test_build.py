"""What is made of an entry: factors that calibration finds and where they reach, combinations, ablations, and what is still written."""

import pytest
import torch
from torch import Tensor

from lgmamba.config.remedies import Combination
from lgmamba.mixers.contract import gather_steps
from lgmamba.remedies.base import chain, cuts_every, piecewise
from lgmamba.remedies.read import record_vanilla, still_written
from lgmamba.remedies.registry import build, calibrate, control_remedies
from lgmamba.remedies.remedy import Remedy
from lgmamba.tasks.draw.config import DrawConfig
from tests.model.models import EXACT, L0, along
from tests.remedies.contract import LAST, LONG, SHORT, calibration_set, entry, images, model, read, remedy, vanilla


@pytest.mark.parametrize(
    ("form", "how", "mode"),
    [
        ("mult", "gradient", "prefix"),
        ("pow", "gradient", "stream"),
        ("mult", "zeroth_order", "stream"),
        ("pow", "zeroth_order", "prefix"),
    ],
)
def test_calibrated_factors_lower_the_error_on_images_held_out_or_change_nothing(form, how, mode):
    tried = entry(("spectrum", form), mode, calibrate=how, scope="layer", factor=None)
    found = calibrate(tried, calibration_set("plain", steps=6)).values["T"]
    assert set(found) == {str(2 * L0), str(LAST)}
    for values in found.values():
        assert len(values["factors"]) == 2
        assert values["after"] <= values["before"]
        assert values["after"] < values["before"] or values["factors"] == [1.0, 1.0]


def test_factors_of_a_stream_start_at_1_and_reach_those_calibrated():
    """From L0 to 2 L0 the ln of a factor grows with ln t; blocks are half of L0."""
    tried = entry(("spectrum", "mult"), "stream")
    values = {"T": {str(2 * L0): {"factors": [4.0, 0.25]}}}
    found = build(tried, [tried], {"tried": values}, model(), 2 * L0)
    spectra: dict[tuple[int, int], Tensor] = {}

    def note(call):
        spectra[call.layer, call.t0 + 1] = call.A
        return call

    hook, (patches, cells, _) = found.make_hook(None), images()
    model().encode(model().embed(gather_steps(patches, cells), cells), hook=chain(hook, piecewise(cuts_every(1), note)))
    as_is = [-torch.exp(block.mixer.A_log) for block in model().blocks]
    for layer, factor in enumerate((4.0, 0.25)):
        torch.testing.assert_close(spectra[layer, L0], as_is[layer], **EXACT)
        torch.testing.assert_close(spectra[layer, LAST], factor * as_is[layer], **EXACT)
        middle = (L0 + 2) / L0  # the middle of the first block of four steps
        expected = factor ** (torch.tensor(middle).double().log() / torch.tensor(2.0).double().log()) * as_is[layer]
        torch.testing.assert_close(spectra[layer, L0 + 1], expected, **EXACT)


SCOPES = {
    ("spectrum", "global"): (1, lambda f: [f[0], f[0]]),
    ("spectrum", "layer"): (2, lambda f: [f[0], f[1]]),
    ("spectrum", "mode"): (2 * 4, lambda f: list(f.reshape(2, 4))),
    ("spectrum", "channel_mode"): (2 * 24 * 4, lambda f: list(f.reshape(2, 24, 4))),
    ("step_size", "layer"): (2, lambda f: [f[0], f[1]]),
    ("step_size", "channel"): (2 * 24, lambda f: list(f.reshape(2, 24))),
}


@pytest.mark.parametrize("mode", ["prefix", "stream"])
@pytest.mark.parametrize(("scope", "expected"), SCOPES.items(), ids=[" ".join(scope) for scope in SCOPES])
def test_factors_of_a_scope_reach_their_channels_and_modes(scope, expected, mode):
    """Two layers of 24 channels and 4 modes; all of M factors differ, and hold from 2 L0 on."""
    (kind, form), (M, of_layers) = scope, expected
    if kind == "spectrum":
        tried = entry((kind, "mult"), mode, scope=form)
    else:
        tried = entry((kind, form), mode, calibrate="gradient", factor=None)
    calibrated = calibrate(tried, calibration_set("plain", steps=1, lengths=[2])).values  # for their number alone
    assert len(calibrated["T"][str(2 * L0)]["factors"]) == M
    factors = torch.linspace(0.5, 1.5, M, dtype=torch.float64)
    found = build(tried, [tried], {"tried": {"T": {str(2 * L0): {"factors": factors.tolist()}}}}, model(), 2 * L0)
    before, after = {}, {}

    def enter(call):
        before[call.layer] = call
        return call

    def leave(call):
        after[call.layer] = call
        return call

    hook, (patches, cells, _) = found.make_hook(LAST if mode == "prefix" else None), images()
    hook = chain(enter, hook, piecewise(cuts_every(1), leave))
    model().encode(model().embed(gather_steps(patches, cells), cells), hook=hook)
    for layer, s in enumerate(of_layers(factors)):
        if kind == "spectrum":
            torch.testing.assert_close(after[layer].A, before[layer].A * s, **EXACT)
        else:
            torch.testing.assert_close(after[layer].dt[:, 0], before[layer].dt[:, -1] * s, **EXACT)


def test_a_combination_is_its_parts_one_after_the_other():
    first = entry(("step_size", "power"), "stream", name="first")
    second = entry(("retain_insert", "gains"), "stream", name="second")
    both = Combination(name="both", combine=["first", "second"])
    entries = [first, second, both]
    made = [build(e, entries, {}, model(), LAST) for e in entries]
    assert made[2].mode == "stream"
    one, two, together = (read(m, LONG) for m in made)
    assert min(float((together - v).abs().max()) for v in (one, two)) > 1e-4
    again = second.model_copy(update={"horizon": 1e12, "insertion": 1.0})  # longer than an entry may ask for
    neutral = build(both, [first, again, both], {}, model(), LAST)
    torch.testing.assert_close(read(neutral, LONG), one, rtol=1e-8, atol=1e-8)  # a retention of 1 - 1e-13 a step


def test_a_combination_of_prefix_entries_is_the_identity_up_to_the_training_length():
    first = entry(("step_size", "uniform"), "prefix", name="first")
    second = entry(("longmamba", "bound"), "prefix", name="second")
    both = Combination(name="both", combine=["first", "second"])
    values = {"second": calibrate(second, calibration_set("plain")).values}
    found = read(build(both, [first, second, both], values, model(), LAST), SHORT + LONG)
    torch.testing.assert_close(found[:, : len(SHORT)], vanilla("prefix", tuple(SHORT)), **EXACT)
    assert (found[:, -1] - vanilla("prefix", (LAST,))[:, -1]).abs().max() > 1e-4


def test_the_ablations_of_a_score_decimate_where_the_score_does():
    layers = {
        score: calibrate(entry(("decimamba", score), "prefix", layers="best"), calibration_set("plain")).values[
            "layers"
        ]
        for score in ("step_size", "random", "newest")
    }
    assert layers["random"] == layers["newest"] == layers["step_size"]


def written(found: Remedy, steps: list[int]) -> dict[int, dict[str, float]]:
    patches, cells, random_scores = images()
    vanilla = record_vanilla(model(), along(patches, cells), LAST, 7)
    return still_written(model(), found, vanilla, along(patches, cells), random_scores, steps, 7)


def test_what_is_still_written_by_hand():
    plain = Remedy("vanilla", "vanilla", "prefix", "")
    assert written(plain, SHORT) == {}
    assert set(written(plain, SHORT + LONG)) == set(LONG)
    for T, found in written(plain, LONG).items():
        assert found == {"written": 1.0, "step_size": pytest.approx(1.0, rel=1e-12)}, T
    controls = {c.name: written(c, [L0 + 1, LAST]) for c in control_remedies(model(), DrawConfig)}
    assert controls["freeze"][LAST] == {"written": 0.0, "step_size": 0.0}
    assert controls["truncate"][LAST]["written"] == L0 / (LAST - L0)  # of the steps after L0, the last L0
    assert controls["truncate"][L0 + 1]["written"] == 1.0
    assert controls["reset"][LAST]["written"] == L0 / (LAST - L0)
    halved = remedy(("step_size", "uniform"), "prefix")
    assert written(halved, [2 * L0])[2 * L0]["written"] == 1.0
    assert written(halved, [2 * L0])[2 * L0]["step_size"] < 0.7  # times 1/2; later layers see other inputs
    windows = remedy(("assemble", "consecutive"), "stream")
    assert written(windows, [2 * L0 - 1, 2 * L0]) == {
        2 * L0 - 1: {"written": 0.0, "step_size": 0.0},
        2 * L0: {"written": 1.0, "step_size": 1.0},
    }
    newest = remedy(("decimamba", "newest"), "prefix")  # layer 1 of 2 keeps L0 steps
    assert written(newest, [LAST])[LAST]["written"] == pytest.approx((1 + L0 / (LAST - L0)) / 2)

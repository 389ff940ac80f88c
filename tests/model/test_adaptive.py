"""Length-adaptive models: equal to the plain one at the start, told what the configuration says, clamped and rescaled where asked."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from lgmamba.config.run import AdaptiveConfig
from lgmamba.model.conditioning import CODE_SIZE, N_FEATURES
from tests.model.models import EXACT, FORMS, L0, as_read, exact, fresh, sequence, told
from tests.model.passes import seen

ALL = [told(*which) for which in itertools.product(FORMS, N_FEATURES, ("extrapolate", "clamp", "rescale"))]
ALL += [told(*which) | {"code": "normalised"} for which in itertools.product(FORMS, N_FEATURES)]
every_form = pytest.mark.parametrize(
    "adaptive", ALL, ids=lambda a: f"{a['kind']}-{a['features']}-{a['beyond']}-{a.get('code', 'plain')}"
)


def features(adaptive: dict, T: list[int], t: list[int], longest: int = L0) -> torch.Tensor:
    conditioning = fresh(adaptive=adaptive).conditioning
    conditioning.L0 = longest
    return conditioning.features(torch.tensor(T), torch.tensor(t))


@every_form
def test_the_plain_model_with_the_same_seed_is_equal_at_initialisation(adaptive):
    plain, adapted = fresh(seed=3), fresh(seed=3, adaptive=adaptive)
    weights = adapted.state_dict()
    for name, p in plain.state_dict().items():
        assert torch.equal(weights[name], p), name
    patches, cells = sequence(plain)
    want, end = plain.encode(plain.embed(patches, cells))
    for lengths in ([1, 5, L0], [3 * L0, 25 * L0, 2]):
        outputs, state = adapted.encode(adapted.embed(patches, cells), target_length=torch.tensor(lengths))
        assert torch.equal(outputs, want)
        assert all(torch.equal(a.memory, b.memory) for a, b in zip(state.layers, end.layers, strict=True))


@every_form
def test_training_can_leave_the_plain_model(adaptive):
    model = fresh(adaptive=adaptive)
    patches, cells = sequence(model)
    model(as_read(patches, cells), torch.tensor([[5], [13], [9]]), torch.tensor([5, 13, 9])).square().mean().backward()
    for head in model.conditioning.heads:
        assert (head.weight.grad.abs().sum(1) > 0).all()


@every_form
def test_what_is_told_changes_outputs_of_that_sample_alone(adaptive):
    model = exact(adaptive=adaptive)
    patches, cells = sequence(model)
    first, second = (
        model.encode(model.embed(patches, cells), target_length=torch.tensor(T))[0] for T in ([5, 7, 3], [5, 2, 3])
    )
    assert (first[1] != second[1]).any(-1).all()
    assert torch.equal(first[[0, 2]], second[[0, 2]])


@every_form
@pytest.mark.parametrize("kept", [None, [[0, 2], [1, 3], [0, 3]]], ids=["all", "some steps"])
def test_a_length_told_to_all_at_once_is_that_length_told_to_each(adaptive, kept):
    """Read for one sequence, where what is told is one number in memory; also beyond L0, where step sizes may shrink."""
    model = exact(adaptive=adaptive)
    patches, cells = sequence(model)
    rows = []
    model.conditioning.trunk.register_forward_hook(lambda module, given, code: rows.append(len(code)))
    hook = None if kept is None else lambda call: replace(call, keep=torch.tensor(kept)) if call.layer == 0 else call
    for T in (7, 3 * L0):
        found = [
            model.encode(model.embed(patches, cells), target_length=told, hook=hook)
            for told in (torch.full((3,), T), torch.tensor([T]).expand(3))
        ]
        (each, end), (shared, shared_end) = found
        torch.testing.assert_close(shared, each, **EXACT)
        for a, b in zip(shared_end.layers, end.layers, strict=True):
            torch.testing.assert_close(a.memory, b.memory, **EXACT)
    assert rows == [3, 1, 3, 1]


@pytest.mark.parametrize("form", FORMS)
def test_a_length_told_to_another_number_of_sequences_is_not_told_to_these(form):
    model = exact(adaptive=told(form))
    tokens = model.embed(*sequence(model))
    with pytest.raises(RuntimeError, match="size of tensor"):
        model.encode(tokens, target_length=torch.tensor([7]).expand(len(tokens) - 1))


@pytest.mark.parametrize("features", N_FEATURES)
def test_each_form_reaches_its_own_part_of_the_scan(features):
    calls = {}
    for form in FORMS:
        model = exact(adaptive=told(form, features))
        patches, cells = sequence(model)
        calls[form] = [seen(model, patches, cells, told=torch.full((3,), T))[0] for T in (4, 6)]
    for form, (a, b) in calls.items():
        assert torch.equal(a.x, b.x) == (form == "dt_bias")
        assert torch.equal(a.z, b.z) == (form == "dt_bias")
        assert not torch.equal(a.dt, b.dt)  # with film through its input


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_by_their_formulas(form):
    model = exact(adaptive=told(form), n_layer=1)
    patches, cells = sequence(model)
    T = torch.tensor([5, 13, 9])
    outputs, _ = model.encode(model.embed(patches, cells), target_length=T)

    code = model.conditioning(T, torch.arange(1, 14))
    head = model.conditioning.heads[0](code)  # (B, L, D), (B, L, 3 d), or both side by side
    d, D = 12, 24
    dt_offset = head[..., :D] if form in ("dt_bias", "both") else None
    scale, shift, gate = head[..., -3 * d :].split(d, dim=-1) if form != "dt_bias" else (torch.zeros(1),) * 3
    x = model.embed(patches, cells)
    mixed, _, _ = model.blocks[0].mixer(model.blocks[0].norm(x) * (1 + scale) + shift, dt_offset=dt_offset)
    want = model.norm_out(x + mixed * (1 + gate))
    if form == "film_readout":
        scale, shift = model.conditioning.heads[1](code).split(d, dim=-1)
        want = want * (1 + scale) + shift
    torch.testing.assert_close(outputs, want, **EXACT)


def test_a_normalised_code_is_centred_and_of_one_size_and_still_tells_lengths_apart():
    T, t = torch.tensor([1, 2, L0, 3 * L0]), torch.arange(1, L0 + 1)
    plain, normalised = (exact(adaptive=told() | {"code": code}).conditioning(T, t) for code in ("plain", "normalised"))
    centred = plain - plain.mean(-1, keepdim=True)
    want = CODE_SIZE * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()  # layer_norm's own 1e-5
    torch.testing.assert_close(normalised, want, **EXACT)
    assert (normalised[0] != normalised[1]).any()


def test_features_by_hand():
    found = features(told(features="T_and_t"), [4], [1, 4], longest=16)
    want = [
        [math.log(4) / math.log(16), 1 / 4, 1 / 4, math.log(2) / math.log(17), math.log(4) / math.log(17)],
        [math.log(4) / math.log(16), 1 / 4, 1.0, math.log(5) / math.log(17), 0.0],
    ]
    torch.testing.assert_close(found[0], torch.tensor(want, dtype=torch.float64), **EXACT)
    found = features(told(features="T"), [4, 16], [1, 4], longest=16)
    want = [[[math.log(4) / math.log(16), 1 / 4]], [[1.0, 1 / 16]]]
    torch.testing.assert_close(found, torch.tensor(want, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("kind", N_FEATURES)
def test_within_the_training_lengths_both_policies_are_the_same(kind):
    T, t = list(range(1, L0 + 1)), list(range(1, L0 + 1))
    clamped, free = (features(told(features=kind, beyond=beyond), T, t) for beyond in ("clamp", "extrapolate"))
    read = torch.tensor(t) <= torch.tensor(T)[:, None] if kind == "T_and_t" else torch.ones(L0, 1, dtype=torch.bool)
    assert torch.equal(clamped[read], free[read])


def test_clamped_features_make_a_long_sequence_a_slow_one():
    clamp = told(beyond="clamp")
    slow = features(clamp, [25 * L0], [25 * t for t in range(1, L0 + 1)])
    torch.testing.assert_close(slow, features(clamp, [L0], list(range(1, L0 + 1))), **EXACT)
    past = features(clamp, [L0, 3], [L0, 2 * L0, 25 * L0])
    assert torch.equal(past, past[:, :1].expand_as(past))  # steps beyond the length told look like its last one
    everything = features(clamp, [1, L0, 25 * L0], list(range(1, 25 * L0 + 1)))
    assert everything.min() >= 0 and everything.max() <= 1


def test_extrapolated_features_go_on():
    found = features(told(), [L0, 4 * L0], [L0, 2 * L0])
    assert (found[1, :, 0] > 1).all()
    assert found[0, :, 2].tolist() == [1, 2]
    assert found[0, :, 4].tolist() == [0, 0]  # no steps to go, not fewer than none
    assert not torch.equal(found[0, 0], found[0, 1])


@pytest.mark.parametrize("form", FORMS)
def test_a_clamped_model_told_of_T_reads_any_length_beyond_L0_alike(form):
    model = exact(adaptive=told(form, "T", "clamp"))
    patches, cells = sequence(model, L=2 * L0 + 3)
    at_L0, beyond = (
        model.encode(model.embed(patches, cells), target_length=torch.tensor(T))[0]
        for T in ([L0] * 3, [L0 + 1, 2 * L0, 25 * L0])
    )
    assert torch.equal(at_L0, beyond)
    free = exact(adaptive=told(form, "T", "extrapolate"))
    assert not torch.equal(free.encode(free.embed(patches, cells), target_length=torch.full((3,), L0 + 1))[0], at_L0)


@pytest.mark.parametrize("form", FORMS)
def test_a_rescaled_model_is_a_clamped_one_with_step_sizes_times_L0_over_T(form):
    clamped, rescaled = (exact(adaptive=told(form, "T_and_t", beyond)) for beyond in ("clamp", "rescale"))
    patches, cells = sequence(clamped, L=3 * L0)
    T = torch.tensor([3 * L0, L0 + 1, 4])
    factor = torch.tensor([1 / 3, L0 / (L0 + 1), 1.0], dtype=torch.float64)[:, None, None]
    slower = lambda call: replace(call, dt=call.dt * factor)  # noqa: E731
    want = clamped.encode(clamped.embed(patches, cells), target_length=T, hook=slower)[0]
    found = rescaled.encode(rescaled.embed(patches, cells), target_length=T)[0]
    torch.testing.assert_close(found[0], want[0], **EXACT)
    torch.testing.assert_close(found[1, : L0 + 1], want[1, : L0 + 1], **EXACT)  # from there on, t takes the place of T
    torch.testing.assert_close(found[2, :L0], want[2, :L0], **EXACT)
    twice = rescaled.encode(rescaled.embed(patches, cells), target_length=T, hook=slower)[
        0
    ]  # what a hook sees is rescaled already
    again = lambda call: replace(call, dt=call.dt * factor**2)  # noqa: E731
    torch.testing.assert_close(
        twice[0], clamped.encode(clamped.embed(patches, cells), target_length=T, hook=again)[0][0], **EXACT
    )


def test_a_rescaled_model_read_past_what_it_was_told_slows_down_with_t():
    clamped, rescaled = (exact(adaptive=told(beyond=beyond)) for beyond in ("clamp", "rescale"))
    patches, cells = sequence(clamped, L=3 * L0)
    running = lambda call: replace(  # noqa: E731
        call,
        dt=call.dt * (L0 / torch.arange(call.t0 + 1, call.t0 + 1 + call.dt.shape[1]).double()).clamp(max=1)[:, None],
    )
    T = torch.full((3,), L0)
    want = clamped.encode(clamped.embed(patches, cells), target_length=T, hook=running)[0]
    torch.testing.assert_close(rescaled.encode(rescaled.embed(patches, cells), target_length=T)[0], want, **EXACT)
    state, outputs = None, []
    for t in range(3 * L0):
        out, state = rescaled.encode(rescaled.embed(patches[:, t : t + 1], cells[:, t : t + 1]), state, T)
        out = out[:, 0]
        outputs.append(out)
    torch.testing.assert_close(torch.stack(outputs, 1), want, **EXACT)


def test_of_a_sequence_too_long_to_be_slowed_down_for_the_last_part_is_read():
    model = exact(adaptive=told(beyond="rescale") | {"slowest": 2}, mixer={"d_conv": 1})
    patches, cells = sequence(model, L=4 * L0)
    T = torch.full((3,), 4 * L0)
    last = slice(2 * L0, None)
    want = model.encode(model.embed(patches[:, last], cells[:, last]), target_length=T - 2 * L0)[0]
    torch.testing.assert_close(model.encode(model.embed(patches, cells), target_length=T)[0][:, last], want, **EXACT)
    free = exact(adaptive=told(beyond="rescale"), mixer={"d_conv": 1})
    torch.testing.assert_close(
        free.encode(free.embed(patches[:, last], cells[:, last]), target_length=T - 2 * L0)[0], want, **EXACT
    )
    calls = seen(model, patches, cells, told=torch.full((3,), L0))  # past what it was told: at the lowest rate
    plain = seen(exact(adaptive=told(beyond="clamp"), mixer={"d_conv": 1}), patches, cells, told=torch.full((3,), L0))
    rate = (calls[0].dt / plain[0].dt)[..., 0]
    want = (L0 / torch.arange(1, 4 * L0 + 1).double()).clamp(0.5, 1).expand(3, -1)
    torch.testing.assert_close(rate, want, **EXACT)


def test_up_to_L0_a_rescaled_model_is_a_clamped_one_bit_by_bit():
    clamped, rescaled = (exact(adaptive=told(beyond=beyond)) for beyond in ("clamp", "rescale"))
    patches, cells = sequence(clamped, L=L0)
    T = torch.tensor([L0, 5, L0])
    assert torch.equal(
        clamped.encode(clamped.embed(patches, cells), target_length=T)[0],
        rescaled.encode(rescaled.embed(patches, cells), target_length=T)[0],
    )


@pytest.mark.parametrize("beyond", ["clamp", "extrapolate", "rescale"])
def test_a_model_trained_at_length_1_is_told_finite_numbers(beyond):
    found = features(told(beyond=beyond), [1, 2, 25], [1, 2, 25], longest=1)
    assert found.isfinite().all()


def test_a_length_must_be_told():
    model = exact(adaptive=told())
    patches, cells = sequence(model)
    match = r"length-adaptive: pass target_length, the length \(B,\)"
    with pytest.raises(ValueError, match=match):
        model.encode(model.embed(patches, cells))
    with pytest.raises(ValueError, match=match):
        model.encode(model.embed(patches[:, :1], cells[:, :1]))
    with pytest.raises(ValueError, match=match):
        model(as_read(patches, cells), torch.ones(3, 1, dtype=torch.int64))


def test_a_plain_model_ignores_what_it_is_told():
    model = exact()
    patches, cells = sequence(model)
    assert torch.equal(
        model.encode(model.embed(patches, cells), target_length=torch.tensor([1, 2, 3]))[0],
        model.encode(model.embed(patches, cells))[0],
    )


def test_plans_may_look_at_what_was_told():
    model = exact()
    patches, cells = sequence(model)
    by_length = lambda call: replace(call, dt=call.dt * (8 / call.target_length)[:, None, None])  # noqa: E731
    want, _ = model.encode(model.embed(patches, cells))
    outputs, _ = model.encode(model.embed(patches, cells), target_length=torch.tensor([8, 16, 8]), hook=by_length)
    torch.testing.assert_close(outputs[[0, 2]], want[[0, 2]], **EXACT)
    assert not torch.allclose(outputs[1], want[1])


@pytest.mark.parametrize("form", FORMS)
def test_controls_are_told_no_length_of_their_own_when_they_are_read(form):
    adaptive = told(form, "T_and_t", "extrapolate")
    own = exact(adaptive=adaptive)
    patches, cells = sequence(own)
    for more, length in (({"told": "shuffled"}, L0), ({"told": "constant", "constant": 3}, 3)):
        control = exact(adaptive=adaptive | more)
        control.load_state_dict(own.state_dict())
        assert own.uses_target_length and not control.uses_target_length
        expected, _ = own.encode(own.embed(patches, cells), target_length=torch.full((len(cells),), length))
        for passed in (None, torch.tensor([5, 7, 2])):
            torch.testing.assert_close(
                control.encode(control.embed(patches, cells), target_length=passed)[0], expected, **EXACT
            )
        lengths = torch.tensor([5, 7, 2])
        trained, _ = control.train().encode(control.embed(patches, cells), target_length=lengths)
        if more["told"] == "shuffled":  # in training it is told what is passed: another sequence's length
            expected, _ = own.encode(own.embed(patches, cells), target_length=lengths)
        torch.testing.assert_close(trained, expected, **EXACT)


def test_a_control_of_conditioning_says_what_it_is_told_and_an_own_length_nothing():
    plain = AdaptiveConfig.model_validate(told("film", "T", "clamp"))
    assert plain.told == "own" and not {"told", "constant"} & plain.model_dump().keys()
    with pytest.raises(
        ValueError, match="constant, a length, with told: constant only; got told: constant, constant: null"
    ):
        AdaptiveConfig.model_validate(told("film", "T", "clamp") | {"told": "constant"})

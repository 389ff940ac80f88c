"""Options of mixers: what they change, and that files without them stay what they are."""

import math
from dataclasses import replace

import pytest
import torch

from lgmamba.mixers.attention.mixer import AttentionCall, AttentionMixer
from lgmamba.mixers.mamba.config import MambaConfig
from lgmamba.mixers.mamba.mixer import MambaMixer
from lgmamba.mixers.rglru.config import HYBRID
from lgmamba.mixers.rglru.mixer import RglruMixer
from lgmamba.model.runner import run_sequence
from lgmamba.remedies.assemble.remedy import assemble
from lgmamba.remedies.decimamba.remedy import decimate
from tests.mixers.contract import ROWS, L, Row, build, inputs
from tests.mixers.oracles import attention, attention_weights, mamba3
from tests.model.models import BASE, EXACT, L0, G, K, along, config, exact


def mamba(**options) -> Row:
    return Row(BASE["mixer"] | options, ROWS["mamba"].oracle, 0)


def test_options_stand_in_files_only_where_they_are_set():
    plain = MambaConfig(**BASE["mixer"]).model_dump(mode="json")
    assert set(plain) == set(BASE["mixer"])
    options = {"conv": "none", "dropout": 0.1, "biases": "all", "out_init": "plain"}
    assert MambaConfig(**BASE["mixer"], **options).model_dump(mode="json") == plain | options


def test_dropout_acts_in_training_only_on_what_the_in_projection_gives():
    u, mixer = inputs(), build(mamba(dropout=0.5))
    mixer.eval()
    assert torch.equal(mixer(u)[0], build(mamba()).eval()(u)[0])
    mixer.train()
    torch.manual_seed(0)
    first, second = mixer(u)[0], mixer(u)[0]
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(mixer(u)[0], first)


@pytest.mark.parametrize(
    ("biases", "there"), [("conv", (0, 1)), ("none", (0, 0)), ("projections", (1, 0)), ("all", (1, 1))]
)
def test_biases_are_there_where_they_are_asked_for_and_projections_start_without(biases, there):
    made = MambaMixer(config({"biases": biases}), 0)
    projections, conv = there
    assert (made.in_proj.bias is not None, made.out_proj.bias is not None) == (projections, projections)
    assert (made.conv1d.bias is not None) == conv
    if projections:
        assert not made.in_proj.bias.any() and not made.out_proj.bias.any()


def test_the_out_projection_starts_divided_by_the_root_of_the_depth_or_plain():
    def made(**options) -> torch.Tensor:
        torch.manual_seed(0)
        return MambaMixer(config(options, n_layer=4), 0).out_proj.weight

    torch.testing.assert_close(made(out_init="plain"), 2 * made())


def test_every_third_layer_of_griffin_is_local_attention():
    """And the stack reads in pieces, and masked steps are dropped ones, across both kinds of layer."""
    model = exact(mixer=ROWS["griffin"].mixer, d_model=6, n_layer=3)
    assert [type(block.mixer) for block in model.blocks] == [RglruMixer, RglruMixer, AttentionMixer]
    x = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    want, end = model.encode(x)
    state, outputs = None, []
    for chunk in x.split((4, 1, 4), dim=1):
        out, state = model.encode(chunk, state, hook=lambda call: call)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=1), want, **EXACT)
    torch.testing.assert_close(state.tensors(), end.tensors(), **EXACT)
    assert state.layers[2].tensors[0].shape == (2, 2, 6)  # no more than the window's
    changed = x.clone()
    changed[:, 0] += 1
    seen = (model.blocks[2].mixer(changed)[0] - model.blocks[2].mixer(x)[0]).abs().amax((0, 2))
    assert (seen[:3] > 1e-6).all() and not seen[3:].any()
    assert model.config.mixer.refusal(["state"]) == f"no state: {HYBRID}"


def first_step(first: str) -> RglruMixer:
    return build(
        Row({"kind": "rglru", "width": 6, "blocks": 2, "conv": "none", "first": first}, ROWS["rglru"].oracle, 0)
    )


def test_the_first_step_of_an_empty_state_is_written_whole_after_every_reset_and_in_every_segment():
    """As in the released code, which starts anew so at every boundary; a masked step is none."""
    same, one, u = first_step("same"), first_step("one"), inputs(9)
    assert not torch.allclose(one(u)[0][:, 0], same(u)[0][:, 0])
    share = one(u[:, :1])[1].memory / same(u[:, :1])[1].memory
    torch.testing.assert_close(1 / share, one_minus(same, u[:, :1])[..., None], **EXACT)
    _, state, _ = one(u[:, :4])
    again, end, _ = one(u[:, 4:], state, t0=4, hook=lambda call: call.reset())
    fresh, other, _ = one(u[:, 4:])
    torch.testing.assert_close(again, fresh, **EXACT)
    torch.testing.assert_close(end.tensors, other.tensors, **EXACT)
    windowed = one(u, hook=lambda call: call.window(4, "overlap"))[0]
    torch.testing.assert_close(windowed[:, 6:8], one(u[:, 4:])[0][:, 2:4], **EXACT)  # segments of 4 start every 2 steps
    late = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 1], dtype=torch.bool)[:, None]
    torch.testing.assert_close(one(u, hook=lambda call: call.mask(late))[0][:, 2:], one(u[:, 2:])[0], **EXACT)


def one_minus(mixer: RglruMixer, u: torch.Tensor) -> torch.Tensor:
    """sqrt(1 - a^2) of a single step, (B, D)."""
    call, _ = mixer.prepare(u, None, 0, None, None)
    return (1 - call.retained()[:, 0, :, 0] ** 2).sqrt()


@pytest.mark.parametrize("first", ["same", "one"])
def test_what_is_assembled_from_windows_starts_each_as_training_does(first):
    """Every window is read from an empty state, so that a first step that is written whole is so in each of them."""
    mixer = {"kind": "rglru", "width": 12, "blocks": 2, "first": first}
    model = exact(mixer=mixer).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(2, G, K, generator=generator, dtype=torch.float64)
    cells = torch.arange(2 * L0).expand(2, -1) % G
    found = assemble(model, along(patches, cells), [2 * L0], "stream")
    windows = [
        run_sequence(model, along(patches, cells[:, at]), [L0], "stream", 7)[:, 0]
        for at in (slice(0, L0), slice(L0, None))
    ]
    both = torch.stack(windows)
    assert (both.min(0).values - 1e-9 <= found[:, 0]).all() and (found[:, 0] <= both.max(0).values + 1e-9).all()
    assert not torch.allclose(both[0], both[1])


@pytest.mark.parametrize(
    "name", ["mamba3", "mamba3 with two inputs and outputs a head", "mamba3 normed before the gate"]
)
def test_mamba3_is_slowed_with_its_phases_or_without_them(name):
    mixer, u = build(ROWS[name]), inputs()
    with_phases, without = (
        mixer(u, hook=hook)[0] for hook in (lambda call: call.slow(0.6), lambda call: call.slow_rates(0.6))
    )
    torch.testing.assert_close(with_phases, mamba3(mixer, u, pace=0.6, spin=0.6), **EXACT)
    torch.testing.assert_close(without, mamba3(mixer, u, pace=0.6, spin=1.0), **EXACT)
    assert not torch.allclose(without, with_phases)
    mask = torch.tensor([1, 0, 1, 1, 0, 0, 1], dtype=torch.bool)[:, None]
    masked = mixer(u, hook=lambda call: call.slow_rates(0.6).mask(mask))[0]
    dropped = mixer(u[:, mask[:, 0]], hook=lambda call: call.slow_rates(0.6))[0]
    torch.testing.assert_close(masked[:, mask[:, 0]], dropped, **EXACT)


def test_a_head_that_is_normed_before_its_gate_is_of_one_size_however_large_its_state():
    mixer, u = build(ROWS["mamba3 normed before the gate"]), inputs()
    plain = mixer(u)[0]
    grown = mixer(u, hook=lambda call: replace(call, x=100 * call.x))[0]
    torch.testing.assert_close(grown, plain, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        mixer.norm_out.zero_()
    assert not mixer(u)[0].any()


@pytest.mark.parametrize("pace", [0.6, 1.7])
@pytest.mark.parametrize("position", ["rope", "alibi", "sinusoid", "absolute"])
def test_attention_is_slowed_by_positions_in_between_and_no_pace_of_time_without_positions(position, pace):
    mixer, u = build(ROWS[f"attention {position}"]), inputs()
    slowed = mixer(u, hook=lambda call: call.slow(pace))[0]
    torch.testing.assert_close(slowed, attention(mixer, u, pace), **EXACT)
    assert not torch.allclose(slowed, mixer(u)[0])
    assert "slow" not in build(ROWS["attention nope"]).config.supports


def test_alibi_forgets_faster_with_steeper_slopes_as_with_a_faster_pace():
    mixer, u = build(ROWS["attention alibi"]), inputs()
    steeper = mixer(u, hook=lambda call: call.decay(1.7))[0]
    torch.testing.assert_close(steeper, attention(mixer, u, 1.7), **EXACT)
    squared = mixer(u, hook=lambda call: call.decay(lambda slopes: slopes**2))[0]
    one = build(Row(ROWS["attention alibi"].mixer | {"heads": 1}, attention, 0))  # of one head, whose slope is 2^-8
    by_rate = one(u, hook=lambda call: call.decay(lambda slopes: slopes**2))[0]
    torch.testing.assert_close(by_rate, attention(one, u, 2.0**-8), **EXACT)
    assert not torch.allclose(squared, mixer(u)[0])


POSITIONS = ("nope", "rope", "alibi", "sinusoid", "absolute")
GAIN = torch.linspace(0.5, 2.0, L, dtype=torch.float64)


def called(name: str, u: torch.Tensor) -> AttentionCall:
    return build(ROWS[name]).prepare(u, None, 0, None, None)[0]


@pytest.mark.parametrize("position", POSITIONS)
def test_what_attention_reads_is_a_gain_on_the_products_of_each_query_whatever_its_pace_and_however_it_is_cut(position):
    mixer, u = build(ROWS[f"attention {position}"]), inputs()
    sharp = mixer(u, hook=lambda call: call.read(GAIN[:, None]))[0]
    torch.testing.assert_close(sharp, attention(mixer, u, gain=GAIN), **EXACT)
    assert not torch.allclose(sharp, mixer(u)[0])
    twice = mixer(u, hook=lambda call: call.read(GAIN[:, None]).read(torch.full((1, 1), 2.0)))[0]
    torch.testing.assert_close(twice, attention(mixer, u, gain=2 * GAIN), **EXACT)
    state, outputs = None, []
    for start, stop in ((0, 3), (3, 4), (4, L)):
        part = u[:, start:stop]
        out, state, _ = mixer(
            part, state, t0=start, hook=lambda call: call.read(GAIN[call.t0 : call.t0 + call.shape[1], None])
        )
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, 1), sharp, **EXACT)
    some = torch.tensor([1, 0, 1, 1, 0, 0, 1], dtype=torch.bool)
    masked = mixer(u, hook=lambda call: call.read(GAIN[:, None]).mask(some[:, None]))[0]
    keep = torch.where(some)[0].expand(2, -1)
    dropped = mixer(u, hook=lambda call: replace(call.read(GAIN[:, None]), keep=keep))[0]
    torch.testing.assert_close(dropped, masked[:, some], **EXACT)
    if position != "nope":
        both = attention(mixer, u, 0.7, GAIN)
        for hook in (lambda call: call.slow(0.7).read(GAIN[:, None]), lambda call: call.read(GAIN[:, None]).slow(0.7)):
            torch.testing.assert_close(mixer(u, hook=hook)[0], both, **EXACT)


def test_a_gain_of_two_squares_the_odds_with_which_a_step_is_looked_at():
    """Step 2 gives itself three times what it gives step 1, where both receive it; step 1 gives itself all."""
    call = called("attention nope", inputs(2))
    k = torch.zeros_like(call.k)
    k[:, 1, [0, 2, 4]] = 1.0  # in each of the three heads, which are 2 wide
    call = replace(call, q=torch.full_like(k, math.log(3) * 2**0.5), k=k)
    for gain, own in ((1.0, 3 / 4), (2.0, 9 / 10)):
        received = call.read(torch.full((1, 1), gain)).score()[..., 0]
        torch.testing.assert_close(received, torch.tensor([[2 - own, own]] * 2, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("name", [*(f"attention {p}" for p in POSITIONS), "attention over the last three steps"])
def test_the_score_of_a_step_is_the_attention_that_it_receives(name):
    mixer, u = build(ROWS[name]), inputs()
    call = mixer.prepare(u, None, 0, None, None)[0]
    want = attention_weights(mixer, u).mean(1).sum(1)
    torch.testing.assert_close(call.score()[..., 0], want, **EXACT)
    kept = decimate([0], base=3)(call).keep
    assert kept.tolist() == [[*sorted(row[:-1].argsort()[-3:].tolist()), L - 1] for row in want]


def test_attention_received_by_hand_where_masked_steps_are_dropped_ones():
    """Without products every step gives the same to all that it sees: 1; 1/2, 1/2; 1/3, 1/3, 1/3."""
    call = called("attention nope", inputs(3))
    call = replace(call, q=torch.zeros_like(call.q))
    want = torch.tensor([[1 + 1 / 2 + 1 / 3, 1 / 2 + 1 / 3, 1 / 3]] * 2, dtype=torch.float64)
    torch.testing.assert_close(call.score()[..., 0], want, **EXACT)
    masked = call.mask(torch.tensor([1, 0, 1])[:, None])
    want = torch.tensor([[1 + 1 / 2, 0, 1 / 2]] * 2, dtype=torch.float64)
    torch.testing.assert_close(masked.score()[..., 0], want, **EXACT)
    for name in ("attention rope", "attention alibi", "attention over the last three steps"):
        call, open_ = called(name, inputs()), torch.tensor([1, 0, 1, 1, 0, 0, 1], dtype=torch.bool)
        dropped = call.take(torch.where(open_)[0].expand(2, -1)).score()
        torch.testing.assert_close(call.mask(open_[:, None]).score()[:, open_], dropped, **EXACT)


def test_attention_received_says_which_steps_go_on_and_nothing_that_is_asked_before_later_steps_are_read():
    config = build(ROWS["attention rope"]).config
    why = "no score: how much a step is looked at is known only when later steps have looked"
    assert config.refusal(["keep", "score"]) is None
    assert config.refusal(["score"]) == config.refusal(["mask", "score"]) == config.refusal(["slow", "score"]) == why
    assert config.refusal(["mask", "score", "eigenmodes"]).endswith(f"; {why}")
    local = build(ROWS["attention over the last three steps"]).config
    assert local.refusal(["read"]).startswith("no read: with local a step of a longer sequence looks at no more steps")


@pytest.mark.parametrize("length", [1, 4, L, 300])
def test_steps_in_a_row_have_the_biases_that_their_numbers_have(length):
    """Shorter than the window, longer, and longer than what looks at a time; a start is read by number."""
    mixer = build(ROWS["gsm_local"])
    found = []
    for state in (None, mixer.start(2)):
        u = inputs(length).requires_grad_()
        out = mixer(u, state, want_state=False)[0]
        (out * torch.arange(out.numel()).view(out.shape).cos()).sum().backward()
        found.append((out, u.grad, mixer.bias.grad))
        mixer.zero_grad()
    assert torch.equal(found[0][0], found[1][0])
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, **EXACT)


def test_training_looks_no_bias_up_by_number():
    """On a GPU the gradient of that took a whole step's time many times over."""
    mixer = build(ROWS["gsm_local"])
    todo, seen = [mixer(inputs(), want_state=False)[0].grad_fn], set()
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [before for before, _ in node.next_functions]
    names = {type(node).__name__ for node in seen}
    assert "SoftmaxBackward0" in names
    assert not [name for name in names if name.startswith("Index")]

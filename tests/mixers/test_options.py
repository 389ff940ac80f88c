"""Options of mixers: what they change, and that files without them stay what they are."""

from dataclasses import replace

import pytest
import torch

from lgmamba.mixers.attention.mixer import AttentionMixer
from lgmamba.mixers.mamba.config import MambaConfig
from lgmamba.mixers.mamba.mixer import MambaMixer
from lgmamba.mixers.rglru.config import HYBRID
from lgmamba.mixers.rglru.mixer import RglruMixer
from lgmamba.model.runner import run_sequence
from lgmamba.remedies.assemble.remedy import assemble
from tests.mixers.contract import ROWS, Row, build, inputs
from tests.mixers.oracles import attention, mamba3
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

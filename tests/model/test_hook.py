"""The hook into the scan: the neutral hook, masks, drops, gains, states; alike for a whole pass, pieces and steps."""

from dataclasses import replace

import pytest
import torch

from lgmamba.mixers.contract import Hook, gather_steps
from lgmamba.mixers.mamba.mixer import MambaCall
from lgmamba.model import StackState
from lgmamba.model.conditioning import BlockCondition
from tests.model.models import EXACT, SINGLE, VARIANTS, exact, fresh, lengths_told, moved, sequence, told
from tests.model.passes import CUTS, assert_same_state, in_pieces, seen
from tests.scan.cases import backends

B, L = 3, 13
SKIPPED = torch.tensor([0, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 1, 0], dtype=torch.bool)


def neutral(call: MambaCall) -> MambaCall:
    return call


def masked(call: MambaCall) -> MambaCall:
    """Some steps write nothing and let nothing decay."""
    here = SKIPPED[call.t0 : call.t0 + call.dt.shape[1]]
    return replace(call, dt=call.dt.where(~here[:, None], 0.0))


def slowed(call: MambaCall) -> MambaCall:
    """A stream-mode remedy: step sizes shrink in proportion beyond step 4, and A with the layer."""
    t = call.t0 + 1 + torch.arange(call.dt.shape[1], dtype=call.dt.dtype)
    return replace(call, dt=call.dt * (4 / t).clamp(max=1)[:, None], A=call.A * (1 + call.layer))


def at(layer: int, hook: Hook) -> Hook:
    """The hook at one layer only."""
    return lambda call: hook(call) if call.layer == layer else call


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("double", [True, False], ids=["float64-reference", "float32-auto"])
@pytest.mark.parametrize("sizes", [(13,), (1, 2, 10), (1,) * 13], ids=str)
def test_the_neutral_plan_equals_no_plan(variant, double, sizes):
    model, tolerance = (exact(**variant), EXACT) if double else (moved(fresh(**variant)), SINGLE)
    patches, cells = sequence(model)
    lengths = lengths_told(model, 5, 13, 20)
    want, end = model.encode(model.embed(patches, cells), target_length=lengths)
    outputs, state = in_pieces(model, patches, cells, lengths, sizes, neutral)
    torch.testing.assert_close(outputs, want, **tolerance)
    assert_same_state(state, end, tolerance)


@pytest.mark.parametrize("hook", [masked, slowed], ids=lambda p: p.__name__)
@pytest.mark.parametrize("sizes", CUTS[1:], ids=str)
def test_pieces_and_steps_under_a_plan_equal_the_whole(hook, sizes):
    model = exact(adaptive=told())
    patches, cells = sequence(model)
    lengths = torch.tensor([5, 13, 20])
    want, end = model.encode(model.embed(patches, cells), target_length=lengths, hook=hook)
    outputs, state = in_pieces(model, patches, cells, lengths, sizes, hook)
    torch.testing.assert_close(outputs, want, **EXACT)
    assert_same_state(state, end, EXACT)
    assert not torch.allclose(
        outputs[:, -1], model.encode(model.embed(patches, cells), target_length=lengths)[0][:, -1]
    )


def test_a_plan_sees_every_layer_and_piece_with_its_place_and_shapes():
    model = exact(adaptive=told())
    patches, cells = sequence(model)
    lengths = torch.tensor([5, 13, 20])
    first = seen(model, patches[:, :4], cells[:, :4], told=lengths)
    _, state = model.encode(model.embed(patches[:, :4], cells[:, :4]), target_length=lengths)
    second = seen(model, patches[:, 4:], cells[:, 4:], state, lengths)
    assert [(c.layer, c.t0) for c in first + second] == [(0, 0), (1, 0), (0, 4), (1, 4)]
    assert all(c.h0 is None for c in first)
    for call, layer in zip(second, state.layers, strict=True):
        assert call.target_length is lengths
        assert torch.equal(call.h0, layer.memory)
        assert call.x.shape == call.z.shape == call.dt.shape == (3, 9, 24)
        assert (call.A.shape, call.Bmat.shape, call.Cmat.shape, call.h0.shape) == (
            (24, 4),
            (3, 9, 4),
            (3, 9, 4),
            (3, 24, 4),
        )
        assert (call.dt > 0).all() and (call.A < 0).all()
        assert call.keep is None and call.post_state is None


def test_a_step_of_size_0_writes_nothing_into_the_state():
    model = exact()
    patches, cells = sequence(model)
    noise = torch.Generator().manual_seed(3)

    def masked_noise(call: MambaCall) -> MambaCall:
        call = masked(call)
        x = call.x.where(~SKIPPED[:, None], torch.rand(call.x.shape, generator=noise, dtype=call.x.dtype))
        return replace(call, x=x, Bmat=call.Bmat.where(~SKIPPED[:, None], 7.0))

    want, end = model.encode(model.embed(patches, cells), hook=at(1, masked))
    outputs, state = model.encode(model.embed(patches, cells), hook=at(1, masked_noise))
    assert torch.equal(state.layers[1].memory, end.layers[1].memory)
    assert torch.equal(outputs[:, ~SKIPPED], want[:, ~SKIPPED])
    assert not torch.equal(outputs[:, SKIPPED], want[:, SKIPPED])  # the skip connection still reads x


@pytest.mark.parametrize("backend", backends())
def test_freezing_keeps_the_state_bit_for_bit(backend):
    model = moved(fresh(scan_backend=backend))
    patches, cells = sequence(model)
    _, early = model.encode(model.embed(patches[:, :6], cells[:, :6]))
    _, late = model.encode(
        model.embed(patches[:, 6:], cells[:, 6:]), early, hook=lambda call: replace(call, dt=0 * call.dt)
    )
    for a, b in zip(early.layers, late.layers, strict=True):
        assert torch.equal(a.memory, b.memory)


def test_dropping_steps_equals_masking_them_at_the_steps_kept():
    model = exact()
    patches, cells = sequence(model)
    keep = torch.where(~SKIPPED)[0].expand(B, -1)
    want, end = model.encode(model.embed(patches, cells), hook=at(1, masked))
    outputs, state = model.encode(model.embed(patches, cells), hook=at(1, lambda call: replace(call, keep=keep)))
    torch.testing.assert_close(outputs, want[:, ~SKIPPED], **EXACT)
    assert_same_state(state, end, EXACT)


@pytest.mark.parametrize(
    "adaptive",
    [None, told("dt_bias"), told("film"), told(), told("both", "T"), told("film", "T_and_t", "rescale")],
    ids=str,
)
def test_later_layers_read_the_steps_kept_and_what_was_told_of_them(adaptive):
    model = exact(adaptive=adaptive)
    patches, cells = sequence(model)
    lengths = lengths_told(model, 5, 13, 20)
    keep = torch.tensor([[0, 2, 3, 12], [1, 2, 5, 7], [9, 10, 11, 12]])
    outputs, _ = model.encode(
        model.embed(patches, cells), target_length=lengths, hook=at(0, lambda call: replace(call, keep=keep))
    )
    assert outputs.shape == (3, 4, 12)

    x = model.embed(patches, cells)
    (code, factor), conditions = model._code(x, lengths, 0), [BlockCondition()] * 2
    if code is not None:
        kept = code if code.shape[1] == 1 else gather_steps(code, keep)
        kept_factor = None if factor is None else gather_steps(factor, keep)
        conditions = [model.conditioning.block(0, code, factor), model.conditioning.block(1, kept, kept_factor)]
    kept_alone = torch.zeros(B, L, 1).scatter(1, keep[..., None], 1.0)
    x, _, _ = model.blocks[0](x, None, 0, lengths, conditions[0], lambda c: replace(c, dt=c.dt * kept_alone), True)
    x, _, _ = model.blocks[1](gather_steps(x, keep), None, 0, lengths, conditions[1], None, True)
    torch.testing.assert_close(outputs, model.norm_out(x), **EXACT)


def test_a_gain_on_what_is_written_scales_the_state():
    model = exact()
    patches, cells = sequence(model)
    _, end = model.encode(model.embed(patches, cells))
    _, tripled = model.encode(model.embed(patches, cells), hook=at(0, lambda call: replace(call, Bmat=3 * call.Bmat)))
    torch.testing.assert_close(tripled.layers[0].memory, 3 * end.layers[0].memory, **EXACT)
    gain = (torch.arange(L) >= 5)[:, None]
    _, late = model.encode(model.embed(patches, cells), hook=at(0, lambda call: replace(call, Bmat=call.Bmat * gain)))
    _, empty = model.encode(
        model.embed(patches[:, :5], cells[:, :5]), hook=at(0, lambda call: replace(call, Bmat=call.Bmat * gain[:5]))
    )
    assert (empty.layers[0].memory == 0).all()
    assert (late.layers[0].memory != 0).all()


def test_a_gain_on_what_is_read_changes_outputs_and_not_the_state():
    model = exact(n_layer=1)
    patches, cells = sequence(model)
    want, end = model.encode(model.embed(patches, cells))
    muted, state = model.encode(model.embed(patches, cells), hook=lambda call: replace(call, Cmat=0 * call.Cmat))
    assert torch.equal(state.layers[0].memory, end.layers[0].memory)
    assert not torch.allclose(muted, want)
    unwritten, _ = model.encode(model.embed(patches, cells), hook=lambda call: replace(call, Bmat=0 * call.Bmat))
    torch.testing.assert_close(muted, unwritten, **EXACT)  # both leave the skip connection alone


def test_scaling_step_sizes_equals_scaling_A_and_what_is_written():
    model = exact()
    patches, cells = sequence(model)
    by_dt, _ = model.encode(model.embed(patches, cells), hook=lambda call: replace(call, dt=0.25 * call.dt))
    by_A, _ = model.encode(
        model.embed(patches, cells), hook=lambda call: replace(call, A=0.25 * call.A, Bmat=0.25 * call.Bmat)
    )
    torch.testing.assert_close(by_dt, by_A, **EXACT)


def test_a_replaced_h0_starts_the_piece_from_there():
    model = exact(mixer={"d_conv": 1}, n_layer=1)  # nothing but h is carried
    patches, cells = sequence(model)
    _, state = model.encode(model.embed(patches[:, :5], cells[:, :5]))
    reset, _ = model.encode(model.embed(patches[:, 5:], cells[:, 5:]), state, hook=lambda call: replace(call, h0=None))
    start, _ = model.encode(model.embed(patches[:, 5:], cells[:, 5:]))
    torch.testing.assert_close(reset, start, **EXACT)


def test_post_state_changes_what_the_next_piece_starts_from():
    model = exact()
    patches, cells = sequence(model)
    outputs, end = in_pieces(
        model, patches, cells, None, (5, 8), lambda call: replace(call, post_state=lambda h: h / 2)
    )
    first, state = model.encode(model.embed(patches[:, :5], cells[:, :5]))
    half = tuple(replace(layer, memory=layer.memory / 2) for layer in state.layers)
    second, last = model.encode(model.embed(patches[:, 5:], cells[:, 5:]), StackState(state.t, half))
    torch.testing.assert_close(outputs, torch.cat([first, second], dim=1), **EXACT)
    for mine, other in zip(end.layers, last.layers, strict=True):
        torch.testing.assert_close(mine.memory, other.memory / 2, **EXACT)


def test_gather_steps_takes_rows_per_sample():
    v = torch.arange(24).reshape(2, 3, 2, 2)
    found = gather_steps(v, torch.tensor([[2, 0], [1, 1]]))
    assert torch.equal(found, torch.stack([v[0, [2, 0]], v[1, [1, 1]]]))


def test_a_scan_takes_the_place_of_the_ordinary_one_after_steps_are_dropped_and_before_post_state():
    model = exact()
    patches, cells = sequence(model)
    keep = torch.where(~SKIPPED)[0].expand(B, -1)
    want, end = model.encode(model.embed(patches, cells), hook=at(1, lambda call: replace(call, keep=keep)))

    def scan(call, ordinary):
        assert call.keep is None
        y, h, held = ordinary(call)
        return 2 * y, 3 * h, held, None

    def hook(call: MambaCall) -> MambaCall:
        return replace(call, keep=keep, scan=scan, post_state=lambda h: h + 1)

    calls = []
    got, state = model.encode(
        model.embed(patches, cells), hook=at(1, lambda call: calls.append(hook(call)) or calls[-1])
    )
    assert got.shape == want.shape
    torch.testing.assert_close(state.layers[1].memory, 3 * end.layers[1].memory + 1, **EXACT)
    assert not torch.allclose(got, want)


def test_what_a_scan_remembers_comes_back_with_the_next_piece():
    model = exact()
    patches, cells = sequence(model)
    seen_before = []

    def scan(call, ordinary):
        seen_before.append((call.layer, None if call.remembered is None else [v.tolist() for v in call.remembered]))
        return *ordinary(call), (torch.tensor([call.t0 + call.dt.shape[1], call.layer]),)

    want, _ = model.encode(model.embed(patches, cells))
    got, _ = in_pieces(model, patches, cells, None, (3, 4, 6), lambda call: replace(call, scan=scan))
    torch.testing.assert_close(got, want, **EXACT)
    assert seen_before == [(0, None), (1, None), (0, [[3, 0]]), (1, [[3, 1]]), (0, [[7, 0]]), (1, [[7, 1]])]

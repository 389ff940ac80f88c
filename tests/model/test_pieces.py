"""One computation in many ways: whole sequences, pieces, single steps, padded batches; and no look into the future."""

import itertools
import math

import pytest
import torch

from lgmamba.mixers.contract import gather_steps
from tests.model.models import EXACT, SINGLE, VARIANTS, as_read, exact, fresh, lengths_told, moved, sequence
from tests.model.passes import CUTS, assert_same_state, in_pieces

variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
L = 13


@variants
@pytest.mark.parametrize("sizes", CUTS, ids=str)
def test_pieces_equal_the_whole(variant, sizes):
    model = exact(**variant)
    patches, cells = sequence(model)
    told = lengths_told(model, 5, 13, 20)
    whole, end = model.encode(model.embed(patches, cells), target_length=told)
    outputs, state = in_pieces(model, patches, cells, told, sizes)
    torch.testing.assert_close(outputs, whole, **EXACT)
    assert_same_state(state, end, EXACT)


@variants
@pytest.mark.parametrize("double", [True, False], ids=["float64-reference", "float32-auto"])
def test_single_steps_and_encode_and_forward_agree(variant, double):
    model, tolerance = (exact(**variant), EXACT) if double else (moved(fresh(**variant)), SINGLE)
    patches, cells = sequence(model)
    told = lengths_told(model, 5, 13, 20)
    whole, end = model.encode(model.embed(patches, cells), target_length=told)
    state, outputs = None, []
    for t in range(L):
        out, state = model.encode(model.tokens(as_read(patches, cells), t, t + 1), state, told)
        out = out[:, 0]
        outputs.append(out)
    torch.testing.assert_close(torch.stack(outputs, dim=1), whole, **tolerance)
    assert_same_state(state, end, tolerance)
    steps = torch.tensor([[1, 13, 2], [7, 7, 1], [13, 12, 3]])
    images = model(as_read(patches, cells), steps, told)
    assert images.shape == (3, 3, *model.shape)
    torch.testing.assert_close(images, model.predict(gather_steps(torch.stack(outputs, dim=1), steps - 1)), **tolerance)


def test_a_state_can_be_kept_and_continued_twice():
    model = exact(position="relative_move")
    patches, cells = sequence(model, L=13)
    whole, _ = model.encode(model.embed(patches, cells))
    _, state = model.encode(model.embed(patches[:, :6], cells[:, :6]))
    kept = [(layer.memory.clone(), layer.carry[0].clone()) for layer in state.layers]
    for _ in range(2):
        outputs, _ = model.encode(model.tokens(as_read(patches, cells), 6, 13), state)
        torch.testing.assert_close(outputs, whole[:, 6:], **EXACT)
    for layer, (h, conv) in zip(state.layers, kept, strict=True):
        assert torch.equal(layer.memory, h) and torch.equal(layer.carry[0], conv)


def test_a_start_is_a_state_of_zeros():
    model = exact()
    patches, cells = sequence(model)
    whole, end = model.encode(model.embed(patches, cells))
    zeros = [s.with_tensors(tuple(map(torch.zeros_like, s.tensors))) for s in end.layers]
    outputs, _ = model.encode(model.embed(patches, cells), type(end)(0, tuple(zeros)))
    torch.testing.assert_close(outputs, whole, **EXACT)


def test_gradients_flow_through_the_state_as_through_the_whole():
    model = exact()
    patches, cells = sequence(model)
    grads = []
    for sizes in ((13,), (5, 1, 7)):
        given = patches.clone().requires_grad_()
        outputs, _ = in_pieces(model, given, cells, None, sizes)
        grads.append(torch.autograd.grad(outputs[:, -1].square().sum(), given)[0])
    assert (grads[0][:, 0] != 0).any()
    torch.testing.assert_close(grads[1], grads[0], **EXACT)


def test_no_state_is_returned_where_none_is_wanted():
    model = exact()
    patches, cells = sequence(model)
    outputs, state = model.encode(model.embed(patches, cells), want_state=False)
    assert state is None
    assert torch.equal(outputs, model.encode(model.embed(patches, cells))[0])


@variants
@pytest.mark.parametrize("t", [1, 5, 12])
def test_the_future_does_not_change_the_past(variant, t):
    model = exact(**variant)
    patches, cells = sequence(model)
    told = lengths_told(model, 5, 13, 20)
    others = sequence(model, seed=1)
    changed = [
        torch.cat([mine[:, :t], other[:, t:]], dim=1) for mine, other in zip((patches, cells), others, strict=True)
    ]
    before, after = (model.encode(model.embed(*given), target_length=told)[0] for given in ((patches, cells), changed))
    assert torch.equal(before[:, :t], after[:, :t])
    assert (before[:, t:] != after[:, t:]).any(-1).all()


@variants
def test_right_padding_is_inert(variant):
    model = exact(**variant)
    lengths = (1, 13, 6)
    patches, cells = sequence(model)
    told = lengths_told(model, *lengths)
    inside = torch.arange(L) < torch.tensor(lengths)[:, None]
    patches = patches.where(inside[..., None], torch.nan)  # so that the least leak is seen
    cells = cells.where(inside, 0)
    outputs, _ = model.encode(model.embed(patches, cells), target_length=told)
    for b, T in enumerate(lengths):
        one = slice(b, b + 1)
        alone, _ = model.encode(
            model.embed(patches[one, :T], cells[one, :T]), target_length=None if told is None else told[one]
        )
        torch.testing.assert_close(outputs[one, :T], alone, **EXACT)
    last = torch.tensor(lengths)[:, None]
    torch.testing.assert_close(
        model(as_read(patches, cells), last, told), model.predict(gather_steps(outputs, last - 1)), **EXACT
    )


@pytest.mark.parametrize("position", ["absolute", "relative_move"])
def test_where_a_patch_lies_matters(position):
    model = exact(position=position)
    patches, cells = sequence(model, B=1)
    other = torch.where(torch.arange(L) == 4, (cells + 1) % 6, cells)
    before, after = (model.encode(model.embed(patches, c))[0] for c in (cells, other))
    assert (before[:, 4:] != after[:, 4:]).any(-1).all()


def test_the_first_move_is_zero_and_only_moves_count():
    model = exact(position="relative_move", shape=(2, 8, 8))
    patches, _ = sequence(model, B=1, L=4)
    for start in range(16):
        at_start, _ = model.encode(model.embed(patches[:, :1], torch.tensor([[start]])))
        stay, _ = model.encode(model.embed(patches[:, :1], torch.tensor([[0]])))
        assert torch.equal(at_start, stay)
    rows, cols = torch.tensor([0, 1, 0, 2]), torch.tensor([1, 0, 2, 2])
    here, shifted = (
        model.encode(model.embed(patches, (4 * (rows + r) + cols + c)[None]))[0] for r, c in ((0, 0), (1, 1))
    )
    assert torch.equal(here, shifted)


def test_every_move_has_a_code_of_its_own():
    model = fresh(position="relative_move", shape=(1, 16, 16), patch_size=2)  # 8 x 8 cells
    pairs = list(itertools.product(range(64), repeat=2))
    codes = model._move_code(*torch.tensor(pairs).T[:, None], torch.float64)[0]
    moves = {(a // 8 - b // 8, a % 8 - b % 8) for a, b in pairs}
    assert len(torch.unique(codes.mul(1e6).round(), dim=0)) == len(moves)  # float64 leaves 1e-15, codes differ by 1e-2


def test_the_code_of_a_move_by_hand():
    model = fresh(position="relative_move", shape=(1, 8, 8))  # 4 x 4 cells
    found = model._move_code(torch.tensor([[9]]), torch.tensor([[7]]), torch.float64)[0, 0]  # row 1 to 2, column 3 to 1
    octaves = [math.pi / 2**k for k in range(8)]
    want = [f(move * w) for f in (math.sin, math.cos) for move in (1, -2) for w in octaves]
    torch.testing.assert_close(found, torch.tensor(want, dtype=torch.float64), **EXACT)

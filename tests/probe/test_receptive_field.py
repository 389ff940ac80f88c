"""Receptive fields by gradient and by swapped patches, against plain passes with one thing changed."""

import pytest
import torch

from lgmamba.probe.receptive_field import gradient_sizes, swap_patches
from lgmamba.tasks.draw.sequences import DrawSequences
from tests.model.models import PATCH_SIZE, G, exact
from tests.model.models import told as told_config

T = 9


def sequences(model, B: int = 3) -> DrawSequences:
    g = torch.Generator().manual_seed(4)
    targets = torch.rand(B, *model.shape, generator=g).double()
    from lgmamba.tasks.draw.patches import patchify

    return DrawSequences(targets, patchify(targets, PATCH_SIZE), torch.randint(G, (B, 12), generator=g))


@pytest.mark.parametrize("adaptive", [None, told_config()])
def test_the_gradient_is_that_of_finite_differences(adaptive):
    model = exact(adaptive=adaptive)
    seq = sequences(model)
    got = gradient_sizes(model, seq, T, probes=1, seed=5)
    assert got.shape == (3, T)
    signs = torch.randint(0, 2, (3, *model.shape), generator=torch.Generator().manual_seed(5)).double() * 2 - 1
    step = 1e-6

    @torch.no_grad()
    def value(shift: torch.Tensor) -> torch.Tensor:
        handle = model.blocks[0].register_forward_pre_hook(lambda _, given: (given[0] + shift, *given[1:]))
        told = None if adaptive is None else torch.full((3,), model.L0)
        outputs, _ = model.encode(model.embed(*seq.read(0, T)), target_length=told)
        handle.remove()
        return (model.predict(outputs[:, -1]) * signs).flatten(1).sum(1)

    for j in (0, 4, T - 1):
        slopes = []
        for k in range(model.config.d_model):
            shift = torch.zeros(1, T, model.config.d_model, dtype=torch.float64)
            shift[0, j, k] = step
            slopes.append((value(shift) - value(-shift)) / (2 * step))
        torch.testing.assert_close(got[:, j], torch.stack(slopes, 1).norm(dim=1), rtol=1e-6, atol=1e-9)


def test_more_probes_are_a_mean_over_directions():
    model = exact()
    seq = sequences(model)
    one = gradient_sizes(model, seq, T, probes=1)
    many = gradient_sizes(model, seq, T, probes=3)
    assert (many > 0).all()
    assert not torch.allclose(one, many)


def test_swaps_are_what_a_pass_with_another_patch_gives():
    model = exact()
    seq = sequences(model)
    got = swap_patches(model, seq, T, swaps=2, chunk=4)
    assert len(got.age) == 6
    patches, cells = seq.read(0, T)

    @torch.no_grad()
    def drawn(values):
        outputs, _ = model.encode(model.embed(values, cells))
        return model.predict(outputs[:, -1])

    plain = drawn(patches)
    for k, age in enumerate(got.age.tolist()):
        b, step = k // 2, T - 1 - age
        cell = int(cells[b, step])
        assert cell not in cells[b, step + 1 :].tolist()  # not read again since
        other = patches.clone()
        other[b, step] = seq.patches[(b + 1) % 3, cell]
        row, col = divmod(cell, 3)
        place = (slice(None), slice(2 * row, 2 * row + 2), slice(2 * col, 2 * col + 2))
        moved = (drawn(other) - plain)[b][place]
        asked = (seq.targets[(b + 1) % 3] - seq.targets[b])[place]
        assert got.given[k].item() == pytest.approx(asked.square().mean().item(), rel=1e-12)
        assert got.change[k].item() == pytest.approx(moved.square().mean().item(), rel=1e-9)
        assert got.along[k].item() == pytest.approx((moved * asked).mean().item(), rel=1e-9)

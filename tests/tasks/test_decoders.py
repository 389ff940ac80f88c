"""Decoders: one output, the whole image."""

import pytest
import torch

from lgmamba.config.heads import MlpDecoder, SpatialDecoder
from lgmamba.tasks.draw.decoders import Spatial, build_decoder
from lgmamba.tasks.draw.patches import patchify, unpatchify
from tests.model.models import EXACT

SHAPE, P = (3, 4, 10), 2  # 2 x 5 cells
CONFIGS = [MlpDecoder(kind="mlp", hidden=8), SpatialDecoder(kind="spatial", hidden=8)]


def decoder(config, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_decoder(config, 6, SHAPE, P).double()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.kind)
@pytest.mark.parametrize("leading", [(), (3,), (2, 4)], ids=str)
def test_any_leading_axes_become_images(config, leading):
    made, outputs = decoder(config), torch.rand(*leading, 6, dtype=torch.float64)
    images = made(outputs)
    assert images.shape == (*leading, *SHAPE)
    alone = torch.stack([made(v) for v in outputs.reshape(-1, 6)]).reshape(images.shape)
    torch.testing.assert_close(images, alone, **EXACT)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.kind)
def test_every_pixel_depends_on_the_output_and_differs_from_the_others(config):
    made = decoder(config)
    first, second = made(torch.rand(2, 6, dtype=torch.float64))
    assert (first != second).all()
    assert len(first.unique()) == first.numel()


def test_the_query_and_gain_of_a_cell_draw_that_cell_alone():
    made, outputs = decoder(CONFIGS[1]), torch.rand(2, 6, dtype=torch.float64)
    before = made(outputs)
    for name in ("query", "gain"):
        for cell in range(10):
            other = decoder(CONFIGS[1])
            with torch.no_grad():
                getattr(other, name)[cell] += 1
            row, col = divmod(cell, 5)
            inside = torch.zeros(SHAPE, dtype=torch.bool)
            inside[:, P * row : P * (row + 1), P * col : P * (col + 1)] = True
            assert torch.equal((other(outputs) != before).all(0), inside)


def test_permuted_queries_draw_the_cells_in_that_order():
    made, outputs = decoder(CONFIGS[1]), torch.rand(2, 6, dtype=torch.float64)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    want = unpatchify(patchify(made(outputs), P)[:, order], *SHAPE)
    with torch.no_grad():
        made.query.copy_(made.query[order].clone())
        made.gain.copy_(made.gain[order].clone())
    torch.testing.assert_close(made(outputs), want, **EXACT)


def test_the_spatial_decoder_grows_with_the_cells_by_their_queries_alone():
    small, large = (Spatial(8, 6, (3, 4, 2 * gw), P) for gw in (5, 50))
    more = sum(p.numel() for p in large.parameters()) - sum(p.numel() for p in small.parameters())
    assert more == 2 * 8 * (100 - 10)

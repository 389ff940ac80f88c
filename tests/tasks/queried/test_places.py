"""Places: inside the image, of the law they are named for, the same for an image whatever else is read."""

import itertools

import pytest
import torch

from lgmamba.config.base import ConfigError
from lgmamba.tasks.queried.places import (
    LAWS,
    HeldOutPlaces,
    block_steps,
    check_places,
    draw_places,
    field_of,
    grid_places,
)

FIELD = field_of(9, 12, 4, L0=10)  # neither square nor a multiple of the patch
HASHES = torch.tensor([3, 2**62 + 5, 17])


def drawn(law: str, batch: int, steps: int, field=FIELD, seed: int = 0):
    return draw_places(law, field, batch, steps, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("size", [(9, 12, 4), (4, 7, 4), (5, 5, 1), (16, 16, 4)])
def test_every_patch_lies_inside_the_image(law, size):
    field = field_of(*size, L0=6)
    places = drawn(law, 3, 2 * len(field) + 5, field)
    assert places.shape == (3, 2 * len(field) + 5) and places.dtype == torch.int64
    y, x = field.corners(places)
    assert y.min() >= 0 and x.min() >= 0
    assert y.max() + size[2] <= size[0] and x.max() + size[2] <= size[1]
    check_places(places, field)


def test_uniform_places_are_equally_likely_and_independent():
    places = drawn("uniform", 500, 108)
    counts = torch.bincount(places.flatten(), minlength=len(FIELD)).double()
    expected = places.numel() / len(FIELD)
    assert ((counts - expected) ** 2 / expected).sum() < 53 + 5 * (
        2 * 53
    ) ** 0.5  # chi-square with 53 degrees of freedom
    assert (places[:, 1:] == places[:, :-1]).double().mean() == pytest.approx(1 / len(FIELD), rel=0.2)


def test_gaussian_places_gather_around_the_centre_by_a_sixth_of_the_side():
    field = field_of(96, 48, 2)
    x, y = field.centres(drawn("gaussian", 50, 400, field))
    assert x.mean().abs() < 0.2 and y.mean().abs() < 0.4
    assert x.std() == pytest.approx(48 / 6, rel=0.03)
    assert y.std() == pytest.approx(96 / 6, rel=0.03)


def test_quadrants_are_visited_a_quarter_of_the_period_each():
    field = field_of(10, 10, 3, L0=10)
    assert field.period == 12
    y, x = field.corners(drawn("quadrants", 40, 24, field))
    quadrant = 2 * (y >= 4) + (x >= 4)
    for start in (0, 12):
        visits = quadrant[:, start : start + 12].unflatten(1, (4, 3))
        assert (visits == visits[..., :1]).all()
        assert (visits[..., 0].sort(1).values == torch.arange(4)).all()
    assert len(quadrant[:, ::3].unique(dim=0)) > 20  # in a fresh order each


def test_grid_raster_and_every_place():
    assert grid_places(field_of(8, 8, 4)).tolist() == [0, 4, 20, 24]
    assert field_of(9, 12, 4).corners(grid_places(FIELD))[0].unique().tolist() == [0, 4, 5]  # the last row at the edge
    assert drawn("raster", 1, 60)[0].tolist() == [*range(54), *range(6)]
    every = drawn("every", 2, 108)
    assert (every[:, :54].sort(1).values == torch.arange(54)).all()
    assert (every[:, 54:].sort(1).values == torch.arange(54)).all()
    assert (every[0] != every[1]).any()


@pytest.mark.parametrize("law", LAWS)
def test_held_out_places_are_those_of_the_image_and_a_longer_sequence_only_appends(law):
    n = 2 * block_steps(law, FIELD) + 7
    whole = HeldOutPlaces(law, FIELD, HASHES, 1).read(0, n)
    assert torch.equal(HeldOutPlaces(law, FIELD, HASHES, 1).read(0, 9), whole[:, :9])
    assert torch.equal(HeldOutPlaces(law, FIELD, HASHES[1:], 1).read(0, n), whole[1:])
    pieces = HeldOutPlaces(law, FIELD, HASHES, 1)
    bounds = [0, 3, 10, n - 2, n]
    again = torch.cat([pieces.read(a, b) for a, b in itertools.pairwise(bounds)], dim=1)
    assert torch.equal(again, whole)
    assert torch.equal(pieces.read(2, 5), whole[:, 2:5])  # backwards too
    if law not in ("grid", "raster"):
        assert (HeldOutPlaces(law, FIELD, HASHES, 0).read(0, n) != whole).any(1).all()
        assert (whole[0] != whole[1]).any()
        size = block_steps(law, FIELD)
        assert (whole[:, :size] != whole[:, size : 2 * size]).any(1).all()


def test_a_sequence_of_25600_steps_keeps_one_block():
    places = HeldOutPlaces("uniform", field_of(128, 128, 4), HASHES, 0)
    last = places.read(25_600 - 50, 25_600)
    assert last.shape == (3, 50)
    assert places._block[1].numel() == 3 * 1024


def test_an_image_smaller_than_a_patch_is_refused():
    with pytest.raises(
        ConfigError, match=r"task\.patch_size: found 5, expected at most 4: the images have 4 x 9 pixels"
    ):
        field_of(4, 9, 5)


def test_places_outside_the_image_are_refused():
    with pytest.raises(ConfigError, match="queries: found place 54, expected 0 to 53"):
        check_places(torch.tensor([[0, 54]]), FIELD)


def test_a_stride_that_leaves_pixels_out_is_refused():
    with pytest.raises(ConfigError, match="stride: found 5, expected 1 to 4"):
        grid_places(FIELD, 5)

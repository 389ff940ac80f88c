"""The random affine map: turns, moves and scales as named, white outside, nothing where nothing is asked for."""

import torch

from lgmamba.tasks.queried.augment import apply_affine, draw_affine
from lgmamba.tasks.queried.config import AugmentConfig
from tests.drawn import Drawn

IMAGE = torch.rand(1, 1, 6, 8, generator=torch.Generator().manual_seed(0))


def maps(height=6, width=8, batch=1, **config):
    return draw_affine(AugmentConfig(**config), batch, height, width, torch.Generator().manual_seed(0))


def farthest(*size, **config):
    """Where every random number is the greatest: the largest angle and the longest move."""
    with Drawn(1.0):
        return maps(*size, **config)


def test_no_map_is_the_image():
    torch.testing.assert_close(apply_affine(IMAGE, maps(), 1.0), IMAGE)


def test_a_half_turn_turns_the_image_over():
    turned = apply_affine(IMAGE, farthest(rotation=180), 1.0)
    torch.testing.assert_close(turned, IMAGE.flip(2, 3), atol=1e-5, rtol=0)


def test_a_quarter_turn_of_an_oblong_image_keeps_its_pixels_square():
    image = torch.zeros(1, 1, 5, 9)
    image[..., 2, 3:6] = 1.0  # three pixels in a row
    turned = apply_affine(image, farthest(5, 9, rotation=90), 0.0)
    expected = torch.zeros(1, 1, 5, 9)
    expected[..., 1:4, 4] = 1.0
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=0)


def test_moves_and_scales_fill_with_paper():
    moved = apply_affine(IMAGE, farthest(translation=0.5), 1.0)
    expected = torch.ones_like(IMAGE)
    expected[..., 3:, 4:] = IMAGE[..., :3, :4]
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)
    small = apply_affine(torch.zeros(1, 1, 8, 8), farthest(8, 8, scale=(0.5, 0.5)), 1.0)
    assert small[..., 3:5, 3:5].max() == 0 and small[..., 0, 0] == 1
    assert torch.isclose((1 - small).sum(), torch.tensor(16.0))  # a quarter of the area


def test_maps_are_drawn_within_their_ranges_and_by_the_generator_alone():
    config = {"rotation": 180, "translation": 0.4, "scale": (0.5, 1.5)}
    many = maps(8, 8, batch=2000, **config)
    assert torch.equal(many, maps(8, 8, batch=2000, **config))
    scale = 1 / torch.linalg.det(many[:, :, :2]).sqrt()
    assert 0.5 <= scale.min() < 0.51 and 1.49 < scale.max() <= 1.5

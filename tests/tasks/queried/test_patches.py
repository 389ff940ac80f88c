"""Patches at any pixel position: what is cut out is what stands there, and pictures are put together again."""

import torch

from lgmamba.tasks.queried import patches as patches_module
from lgmamba.tasks.queried.patches import Canvas, cut, last_covered_at
from lgmamba.tasks.queried.places import field_of, grid_places

FIELD = field_of(7, 9, 3)
IMAGES = torch.arange(2 * 2 * 7 * 9).reshape(2, 2, 7, 9).to(torch.uint8)


def test_a_patch_holds_the_pixels_at_its_place():
    g = torch.Generator().manual_seed(0)
    places = torch.randint(len(FIELD), (2, 11), generator=g)
    patches = cut(IMAGES, FIELD, places)
    assert patches.shape == (2, 11, 18) and patches.dtype == torch.uint8
    for b in range(2):
        for i in range(11):
            y, x = divmod(int(places[b, i]), 7)
            assert torch.equal(patches[b, i], IMAGES[b, :, y : y + 3, x : x + 3].flatten())


def test_centres_are_counted_from_the_image_centre():
    field = field_of(16, 8, 4)
    x, y = field.centres(torch.tensor([0, 4, len(field) - 1]))
    assert x.tolist() == [-2.0, 2.0, 2.0] and y.tolist() == [-6.0, -6.0, 6.0]


def test_a_canvas_puts_patches_back_and_averages_where_they_overlap():
    images = IMAGES.float()
    for stride in (1, 2, 3):
        places = grid_places(FIELD, stride)
        canvas = Canvas(FIELD, places, 2)
        patches = cut(images, FIELD, places.expand(2, -1))
        torch.testing.assert_close(canvas.picture(patches), images)
        assert canvas.picture(patches.unflatten(0, (1, 2))).shape == (1, 2, 2, 7, 9)
    field = field_of(1, 3, 1)  # places 0, 1, 2; asked twice at 1
    canvas = Canvas(field, torch.tensor([0, 1, 2, 1]), 1)
    assert canvas.picture(torch.tensor([[0.0], [2.0], [5.0], [4.0]])).flatten().tolist() == [0.0, 3.0, 5.0]


def test_the_last_step_that_covered_a_pixel(monkeypatch):
    monkeypatch.setattr(patches_module, "CHUNK", 2)
    field = field_of(2, 3, 2)
    places = torch.tensor([[0, 0, 0, 0, 1], [1, 1, 1, 1, 1]])
    last = last_covered_at(field, places, torch.tensor([1, 4, 5]))
    assert last[0].tolist() == [[1, 1, 0, 1, 1, 0], [4, 4, 0, 4, 4, 0], [4, 5, 5, 4, 5, 5]]
    assert last[1, 1].tolist() == [0, 4, 4, 0, 4, 4]

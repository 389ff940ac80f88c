"""Images cut into patches and put together again."""

import subprocess
import sys

import pytest
import torch

from lgmamba.tasks.draw.patches import grid_shape, patchify, unpatchify

SHAPES = [(2, 1, 4, 6, 2), (1, 3, 6, 4, 2), (2, 4, 3, 9, 3), (1, 2, 5, 7, 1), (3, 3, 4, 4, 4), (1, 1, 32, 8, 8)]


@pytest.mark.parametrize(("B", "C", "H", "W_img", "P"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
def test_the_round_trip_is_exact(B, C, H, W_img, P, dtype):
    images = torch.arange(B * C * H * W_img).reshape(B, C, H, W_img).to(dtype)
    patches = patchify(images, P)
    assert patches.shape == (B, (H // P) * (W_img // P), C * P * P)
    assert torch.equal(unpatchify(patches, C, H, W_img), images)


def test_a_wide_ramp_by_hand():
    image = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]])[None, None]
    assert patchify(image, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert patchify(image, 1)[0].tolist() == [[v] for v in range(8)]


def test_a_tall_ramp_of_two_channels_by_hand():
    image = torch.tensor([[[0, 1], [2, 3], [4, 5], [6, 7]], [[10, 11], [12, 13], [14, 15], [16, 17]]])[None]
    assert patchify(image, 2)[0].tolist() == [[0, 1, 2, 3, 10, 11, 12, 13], [4, 5, 6, 7, 14, 15, 16, 17]]


def test_cells_are_counted_row_by_row():
    image = torch.zeros(1, 1, 4, 6)
    image[..., 2:4, 4:6] = 1  # row 1, column 2 of the 2 x 3 grid
    assert patchify(image, 2)[0].sum(-1).tolist() == [0, 0, 0, 0, 0, 4]
    image[..., 0:2, 2:4] = 2
    assert patchify(image, 2)[0].sum(-1).tolist() == [0, 8, 0, 0, 0, 4]


def test_putting_together_keeps_leading_axes():
    images = torch.rand(2, 5, 3, 4, 6)
    patches = torch.stack([patchify(v, 2) for v in images])
    assert torch.equal(unpatchify(patches, 3, 4, 6), images)
    assert torch.equal(unpatchify(patches[0, 0], 3, 4, 6), images[0, 0])


def test_grid_is_rows_and_columns():
    assert grid_shape(4, 6, 2) == (2, 3)
    assert grid_shape(6, 4, 2) == (3, 2)


@pytest.mark.parametrize(
    ("H", "W_img", "P", "message"),
    [
        (32, 32, 5, r"patch_size=5 does not divide the image of 32 x 32 pixels; choose one of \[1, 2, 4, 8, 16, 32\]"),
        (6, 4, 4, r"patch_size=4 does not divide the image of 6 x 4 pixels; choose one of \[1, 2\]"),
        (4, 6, 4, r"patch_size=4 does not divide the image of 4 x 6 pixels"),
        (4, 4, 8, r"patch_size=8 does not divide .* choose one of \[1, 2, 4\] or resize the images"),
        (4, 4, 0, r"patch_size=0 must be at least 1 pixel"),
        (4, 4, -2, r"patch_size=-2 must be at least 1 pixel"),
    ],
)
def test_a_patch_size_that_does_not_fit_is_refused_with_those_that_do(H, W_img, P, message):
    with pytest.raises(ValueError, match=message):
        grid_shape(H, W_img, P)
    with pytest.raises(ValueError, match=message):
        patchify(torch.zeros(1, 1, H, W_img), P)


@pytest.mark.parametrize(
    ("cells", "values", "shape"), [(4, 4, (3, 4, 4)), (4, 5, (1, 4, 4)), (5, 4, (1, 4, 4)), (8, 4, (1, 4, 4))], ids=str
)
def test_patches_that_do_not_fill_the_image_are_refused(cells, values, shape):
    with pytest.raises(ValueError, match=r"do not make an image|does not divide"):
        unpatchify(torch.zeros(1, cells, values), *shape)


def test_the_grid_is_there_without_torch():
    code = "import sys, lgmamba.tasks.draw.patches as p; assert p.grid_shape(8, 8, 2) == (4, 4); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

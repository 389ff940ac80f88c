import numpy as np
import pytest
from PIL import Image

from lgmamba.data.decode import DecodeSpec, decode_image, own_bomb_guard
from lgmamba.data.errors import BadImage
from tests.data.samples import bomb_png, encode, pixels


def decode(encoded, size=None, fit="exact", channels="rgb", max_pixels=10_000):
    with own_bomb_guard():
        return decode_image(encoded, DecodeSpec(size, fit, channels, max_pixels))


def test_rgb_is_channels_first_and_exact():
    image = pixels(0, 4, 6)
    found = decode(encode(image))
    assert found.shape == (3, 4, 6) and found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, image.transpose(2, 0, 1))


def test_grey_has_one_channel():
    grey = pixels(0)[..., 0]
    np.testing.assert_array_equal(decode(encode(grey), channels="grey"), grey[None])
    np.testing.assert_array_equal(decode(encode(grey)), np.stack([grey] * 3))


def test_arrays_and_paths_decode_like_bytes(tmp_path):
    grey = pixels(0)[..., 0]
    (tmp_path / "x.png").write_bytes(encode(grey))
    np.testing.assert_array_equal(decode(grey, channels="grey"), decode(tmp_path / "x.png", channels="grey"))


def white_with_transparent_half() -> Image.Image:
    image = np.zeros((8, 8, 4), np.uint8)
    image[:4, :, 3] = 255  # upper half opaque black, lower half transparent black
    return Image.fromarray(image)


ODD = {
    "palette": (Image.new("P", (8, 8), 0), "PNG", {}, None),
    "cmyk": (Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "TIFF", {}, 255),
    "bilevel": (Image.new("1", (8, 8), 1), "PNG", {}, 255),
    "16-bit": (Image.fromarray(np.full((8, 8), 65535, np.uint16)), "PNG", {}, 255),
    "16-bit half": (Image.fromarray(np.full((8, 8), 32896, np.uint16)), "PNG", {}, 128),
    "transparent colour": (Image.new("L", (8, 8), 7), "PNG", {"transparency": 7}, 255),
    "palette with alpha": (white_with_transparent_half().quantize(), "PNG", {}, None),
    "animation": (
        Image.new("P", (8, 8), 0),
        "GIF",
        {"save_all": True, "append_images": [Image.new("P", (8, 8), 1)]},
        0,
    ),
}


@pytest.mark.parametrize("channels", ["grey", "rgb"])
@pytest.mark.parametrize("kind", ODD)
def test_odd_modes_convert(kind, channels):
    image, format, options, value = ODD[kind]
    if kind in ("palette", "animation"):
        image.putpalette([0, 0, 0, 200, 10, 10])
    found = decode(encode(image, format, **options), channels=channels)
    assert found.shape == ((1, 8, 8) if channels == "grey" else (3, 8, 8))
    if value is not None:
        assert np.unique(found).tolist() == [value]


def test_transparency_is_laid_over_white():
    found = decode(encode(white_with_transparent_half()))
    assert np.unique(found[:, :4]).tolist() == [0] and np.unique(found[:, 4:]).tolist() == [255]


def test_exif_orientation_is_applied():
    image = Image.fromarray(pixels(0, 16, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    turned = decode(encode(image, "PNG", exif=exif))
    np.testing.assert_array_equal(turned, np.rot90(pixels(0, 16, 32), -1).transpose(2, 0, 1))


@pytest.mark.parametrize("fit", ["resize", "resize_crop", "center_crop"])
def test_other_sizes_are_made_to_fit(fit):
    found = decode(encode(pixels(0, 12, 20)), size=(8, 10), fit=fit)
    assert found.shape == (3, 8, 10)
    if fit == "center_crop":
        np.testing.assert_array_equal(found, pixels(0, 12, 20)[2:10, 5:15].transpose(2, 0, 1))


def test_resize_crop_keeps_the_aspect_ratio():
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255  # the middle third; scaled by 1, both sides are cut off
    assert decode(encode(wide), size=(8, 8), fit="resize_crop").min() == 255
    assert decode(encode(wide), size=(8, 8), fit="resize").min() == 0


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (None, "null"),
        (b"", "not an image"),
        (b"hello", "not an image that Pillow can read (5 bytes, starting with b'hello')"),
        (encode(pixels(0, 64, 64))[:-2000], "PNG data cannot be decoded"),
        (encode(pixels(0, 64, 64), "JPEG")[:-500], "JPEG data cannot be decoded"),
        (encode(pixels(0, 9, 7)), "the image has 9 x 7 pixels, expected 64 x 64; choose data.fit"),
        (bomb_png(50_000, 60_000), "claims 50000 x 60000 pixels, more than max_pixels=10,000"),
        (encode(Image.new("F", (64, 64)), "TIFF"), "floating point"),
    ],
    ids=["null", "empty", "text", "truncated png", "truncated jpeg", "size", "bomb", "float"],
)
def test_bad_images_say_why(encoded, reason):
    with pytest.raises(BadImage) as e:
        decode(encoded, size=(64, 64))
    assert reason in str(e.value)


def test_too_small_to_crop():
    with pytest.raises(BadImage, match="too small to cut 16 x 16 from"):
        decode(encode(pixels(0)), size=(16, 16), fit="center_crop")


def test_missing_file(tmp_path):
    with pytest.raises(BadImage, match="cannot be read"):
        decode(tmp_path / "gone.png")

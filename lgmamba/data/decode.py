"""One encoded image -> uint8 (C, H, W): modes, sizes, and the ways in which a file can be bad.

Conversions, the same for every source: the first frame of an animation; the orientation noted in EXIF is applied;
16-bit grey is scaled to 8 bits; transparency is laid over white; palette, CMYK and other modes go through Pillow's
standard conversion. Scaling is bicubic or bilinear, with antialiasing; it comes before an inversion.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lgmamba.data.errors import BadImage

Payload = bytes | Path | np.ndarray | str | None
"""An image before decoding: the encoded file's bytes, its path, grey pixels (H, W) uint8, the name of a file that a table means
instead of holding its bytes, or nothing (a null)."""

ENCODED_BYTES, BYTES_PER_PIXEL = 16 << 20, 16
"""No encoded image is larger: metadata, and four channels of four bytes a pixel."""

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class DecodeSpec:
    """What every image becomes.

    Attributes:
        size: height and width, pixels; None keeps the image's own.
        fit: "exact", "resize", "center_crop" or "resize_crop".
        channels: "grey" or "rgb".
        max_pixels: largest height x width that is decoded.
        resampling: a key of `RESAMPLING`.
        invert: "none", or "ink": the pixel value v becomes 255 - v.
    """

    size: tuple[int, int] | None
    fit: str
    channels: str
    max_pixels: int
    resampling: str = "bicubic"
    invert: str = "none"

    @property
    def n_channels(self) -> int:
        return 1 if self.channels == "grey" else 3


def decode_image(payload: Payload, spec: DecodeSpec) -> np.ndarray:
    """Decode one image.

    Returns:
        (C, H, W) uint8, contiguous.
    Raises:
        BadImage: the reason why this image cannot be used.
    """
    with _open(payload, spec.max_pixels) as image:
        _check_pixels(image, spec.max_pixels)
        form = image.format or "image"
        try:
            image.load()
        except Exception as e:  # Pillow's decoders raise whatever their format's library does
            raise BadImage(f"the {form} data cannot be decoded ({e})") from None
        try:
            image = _fit(_to_channels(_upright(image), spec.channels), spec)
            pixels = np.asarray(image, dtype=np.uint8)
        except BadImage:
            raise
        except Exception as e:  # the same for its conversions: LAB to grey, palettes that are too short
            raise BadImage(f"the {form} pixels of mode {image.mode} cannot be converted ({e})") from None
    if spec.invert == "ink":
        pixels = 255 - pixels
    return pixels[None] if spec.channels == "grey" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextmanager
def own_bomb_guard() -> Iterator[None]:
    """Leave the limit on pixels to `DecodeSpec.max_pixels`: Pillow's own is one number per process, and only warns at first."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _open(payload: Payload, max_pixels: int) -> Image.Image:
    """Read the header only; no pixel is decoded yet."""
    if payload is None:
        raise BadImage("the image is null")
    if isinstance(payload, str):
        raise BadImage(
            f"the image is null, the table has only its path {payload!r}; write the image's bytes into the table"
        )
    if isinstance(payload, np.ndarray):
        return Image.fromarray(payload)
    try:
        n_bytes = payload.stat().st_size if isinstance(payload, Path) else len(payload)
        if n_bytes > ENCODED_BYTES + BYTES_PER_PIXEL * max_pixels:
            raise BadImage(
                f"the file has {n_bytes:,} bytes, more than any image of max_pixels={max_pixels:,}; raise data.max_pixels if it is one"
            )
        encoded = payload.read_bytes() if isinstance(payload, Path) else payload
    except OSError as e:
        raise BadImage(f"the file cannot be read ({e.strerror})") from None
    try:
        return Image.open(io.BytesIO(encoded))
    except Exception:  # as above: a damaged header raises anything
        raise BadImage(
            f"not an image that Pillow can read ({len(encoded):,} bytes, starting with {encoded[:8]!r})"
        ) from None


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(
            f"the image claims {height} x {width} pixels, more than max_pixels={max_pixels:,}; a decompression bomb, or raise data.max_pixels"
        )


def _upright(image: Image.Image) -> Image.Image:
    """Apply the camera's orientation; only files that carry EXIF pay for looking."""
    if "exif" not in image.info:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF is no reason to lose a good image
        return image


def _to_channels(image: Image.Image, channels: str) -> Image.Image:
    target = "L" if channels == "grey" else "RGB"
    if image.mode == target and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _from_16_bit(image)
    if image.mode == "F":
        raise BadImage("the pixels are floating point, whose range nobody knows; convert the file to 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(target)


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise BadImage(
            f"the pixels go from {values.min()} to {values.max()}, outside 16 bits; convert the file to 8 bits"
        )
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 / 257 = 255; rounded, not cut


def _fit(image: Image.Image, spec: DecodeSpec) -> Image.Image:
    found = (image.height, image.width)
    if spec.size is None or found == spec.size:
        return image
    height, width = spec.size
    if spec.fit == "resize":
        return image.resize((width, height), RESAMPLING[spec.resampling])
    if spec.fit == "resize_crop":
        return ImageOps.fit(image, (width, height), RESAMPLING[spec.resampling])
    if spec.fit == "center_crop":
        if found[0] < height or found[1] < width:
            raise BadImage(
                f"the image has {found[0]} x {found[1]} pixels, too small to cut {height} x {width} from; try data.fit: resize_crop"
            )
        top, left = (found[0] - height) // 2, (found[1] - width) // 2
        return image.crop((left, top, left + width, top + height))
    raise BadImage(
        f"the image has {found[0]} x {found[1]} pixels, expected {height} x {width}; choose data.fit: resize, center_crop or resize_crop"
    )

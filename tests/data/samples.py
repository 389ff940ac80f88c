"""Small images and tables that the data tests build artefacts from."""

import io
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from lgmamba.config.data import DataConfig

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def config(source: dict | None = None, **overrides) -> DataConfig:
    """A valid configuration: half of the images to train on, 8 x 8 RGB, unless overridden."""
    values = {
        "source": source or {"kind": "digits"},
        "image_size": 8,
        "fit": "exact",
        "channels": "rgb",
        "splits": {"calib": 0.1, "val": 0.2, "test": 0.2},
        "n_classes": None,
        "max_images": None,
        "on_bad_image": "error",
        "max_pixels": 10_000,
    }
    return DataConfig.model_validate(values | overrides)


def parquet(path, **overrides) -> DataConfig:
    """A configuration that reads `path`, columns img and label."""
    source = {"kind": "parquet", "path": str(path), "image_column": "img", "label_column": "label"}
    if "test_path" in overrides:
        source["test_path"] = str(overrides.pop("test_path"))
        overrides.setdefault("splits", {"calib": 0.1, "val": 0.2, "test": 0.0})
    return config(source, **overrides)


def pixels(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    """(height, width, 3) uint8, random."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(image: np.ndarray | Image.Image, format: str = "PNG", **options) -> bytes:
    """An image file's bytes."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def pngs(n: int, first: int = 0) -> list[bytes | None]:
    """n PNG files of random 8 x 8 RGB pixels."""
    return [encode(pixels(first + i)) for i in range(n)]


def write_table(path: Path, images: list[bytes | None], labels=None, struct: bool = True, **columns) -> Path:
    """A Parquet file as public hubs write them: struct or plain binary column `img`, integer column `label`."""
    labels = pl.Series([i % 3 for i in range(len(images))], dtype=pl.Int64) if labels is None else labels
    encoded = pl.Series("img", images, dtype=pl.Binary)
    if struct:
        paths = pl.Series("path", [f"{i}.png" for i in range(len(images))], dtype=pl.String)
        encoded = pl.DataFrame([encoded.alias("bytes"), paths]).to_struct("img")
    pl.DataFrame({"img": encoded, "label": labels, **columns}).write_parquet(path, row_group_size=16)
    return path


def write_folder(root: Path, classes: dict[str, int]) -> Path:
    """Class folders with that many random 8 x 8 RGB PNG files each."""
    for c, (name, n) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for i in range(n):
            (root / name / f"{i:03d}.png").write_bytes(encode(pixels(1000 * c + i)))
    return root


def bomb_png(height: int, width: int) -> bytes:
    """A PNG of a few dozen bytes whose header claims a huge image."""
    import struct
    import zlib

    def block(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", zlib.compress(b"\0")) + block(b"IEND", b"")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its content."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

"""Configuration of the images: where they come from, how they become one uint8 array, how they are split."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lgmamba.config.base import Positive, Strict

Pixels = Annotated[int, Field(ge=1, le=1 << 16)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Paths = Annotated[str, Field(min_length=1)] | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class DigitsSource(Strict):
    """The 1,797 handwritten digits of 8 x 8 grey pixels inside scikit-learn; nothing is read or downloaded."""

    kind: Literal["digits"]


class ParquetSource(Strict):
    """Parquet files with encoded images (JPEG, PNG, ...) in one column and an integer label in another."""

    kind: Literal["parquet"]
    path: Paths = Field(
        description="Files of the training set: local path or glob, https:// address, hf://datasets/<owner>/<name>/<file or glob>; one or a list."
    )
    test_path: Paths | None = Field(
        default=None,
        description="Files whose rows all go to the test split (an official test set); null: splits.test decides.",
    )
    image_column: str = Field(
        description="Column with the encoded images: plain binary, or a struct with a field `bytes`."
    )
    label_column: str | None = Field(
        description="Column with the class labels, integers 0, 1, ...; null: there are none, every label is 0."
    )


class ImageFolderSource(Strict):
    """Image files in any format that Pillow reads, in one sub-folder per class or all in the folder itself."""

    kind: Literal["image_folder"]
    path: str = Field(
        min_length=1,
        description="Folder with one sub-folder per class, whose sorted names are the labels 0, 1, ...; or with images and no class.",
    )
    test_path: str | None = Field(
        default=None,
        description="Such a folder, all of it the test split, with no class that `path` lacks; null: splits.test decides.",
    )


class GlyphsSource(Strict):
    """Letters of many alphabets, drawn from fonts, black on white; nothing is downloaded."""

    kind: Literal["glyphs"]
    path: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of fonts (.ttf, .otf); null: the DejaVu fonts that matplotlib brings along.",
    )
    side: Annotated[int, Field(ge=8, le=1024)] = Field(
        default=32,
        description="Height and width in which a letter is drawn, pixels; image_size and fit come afterwards.",
    )
    alphabets: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None,
        min_length=1,
        description="Alphabets to train on, such as latin, greek, cyrillic; null: all but those tested.",
    )
    test_alphabets: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        description="Alphabets whose letters all go to the test split; []: splits.test decides, letter by letter.",
    )

    @model_validator(mode="after")
    def _apart(self) -> "GlyphsSource":
        if both := sorted(set(self.alphabets or []) & set(self.test_alphabets)):
            raise ValueError(
                f"test_alphabets: found {both[0]}, which alphabets names too; expected: an alphabet in one of them"
            )
        return self


class TextSource(Strict):
    """Windows of text files, as bytes; nothing is downloaded."""

    kind: Literal["text"]
    path: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of text files; null: Python's own standard library, some 30 MB, which depends on Python's version.",
    )
    pattern: str = Field(default="*.py", min_length=1, description="Which files, by name, in the folder and below it.")
    window: int = Field(
        ge=2,
        le=1_000_000,
        description="Bytes of a sample; shorter files, and what is left at the end of one, are not used. A file's samples share a "
        "split.",
    )


class NoImages(Strict):
    """No images: ids of samples alone, for a task that makes its sequences itself, each from its id."""

    kind: Literal["none"]
    samples: int = Field(ge=4, le=10_000_000, description="Ids, in all splits together.")


Source = Annotated[
    DigitsSource | GlyphsSource | ParquetSource | ImageFolderSource | TextSource | NoImages, Field(discriminator="kind")
]


class SplitFractions(Strict):
    """Shares of the images (those of test_path aside) by a hash of the image id; the rest is the training split."""

    calib: Fraction = Field(description="Share held out to calibrate remedies, 0 to 1.")
    val: Fraction = Field(description="Share held out to watch training, 0 to 1.")
    test: Fraction = Field(
        description="Share held out for every reported number, 0 to 1; must be 0 where test_path is given."
    )

    @model_validator(mode="after")
    def _leave_something_to_train(self) -> "SplitFractions":
        if self.calib + self.val + self.test >= 1:
            raise ValueError(
                f"calib + val + test below 1, so that images are left to train on; got {self.calib + self.val + self.test:g}"
            )
        return self


class DataConfig(Strict):
    """Everything that decides which pixels and labels the data artefact holds."""

    source: Source = Field(description="Where the images come from.")
    image_size: Pixels | Annotated[list[Pixels], Field(min_length=2, max_length=2)] | None = Field(
        description="Height and width, pixels: one number for square images, [height, width], or null to keep the size of the source."
    )
    fit: Literal["exact", "resize", "center_crop", "resize_crop"] = Field(
        description="How an image of another size gets to image_size. exact: it is an error; resize: both sides scaled, the aspect "
        "ratio may change; center_crop: the middle is cut out; resize_crop: scaled until it covers image_size, then cut."
    )
    resampling: Literal["bicubic", "bilinear"] = Field(
        "bicubic",
        exclude_if=lambda resampling: resampling == "bicubic",
        description="How pixels are made when an image is scaled; both with antialiasing where it gets smaller.",
    )
    invert: Literal["none", "ink"] = Field(
        "none",
        exclude_if=lambda invert: invert == "none",
        description="ink: black becomes white and white black, so that dark ink on white paper becomes bright on black.",
    )
    channels: Literal["grey", "rgb"] = Field(description="Colour channels kept: grey (1) or rgb (3).")
    splits: SplitFractions = Field(description="Share of the images in each held-out split.")
    n_classes: Positive | None = Field(
        default=None,
        description="Number of classes; a label outside 0 .. n_classes - 1 is an error. null: taken from the source.",
    )
    max_images: Positive | None = Field(
        default=None,
        description="Images kept at most, of path and of test_path each, for quick runs: a fixed random subset, every image in the "
        "split it always has. null: all.",
    )
    on_bad_image: Literal["error", "skip"] = Field(
        description="What an unreadable or wrongly sized image does: error stops the build, skip leaves it out and lists it in the manifest."
    )
    max_pixels: Positive = Field(
        description="Largest height x width that is decoded, pixels per image; a file that claims more is bad (decompression bomb)."
    )

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels, or None where the source decides."""
        if self.image_size is None:
            return None
        height, width = (self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size
        return height, width

    @model_validator(mode="after")
    def _consistent(self) -> "DataConfig":
        if self.image_size is None and self.fit != "exact":
            raise ValueError(f"fit: exact while image_size is null (fit: {self.fit} needs a size to reach)")
        if self.size is not None and self.size[0] * self.size[1] > self.max_pixels:
            raise ValueError(
                f"image_size: found {self.size[0]} x {self.size[1]} pixels, expected: at most max_pixels, {self.max_pixels:,}"
            )
        if self.source.kind in ("none", "text") and self.image_size is not None:
            raise ValueError(
                f"image_size: null while source.kind is {self.source.kind}; got image_size: {self.image_size}"
            )
        if self.source.kind == "text" and (self.channels, self.invert) != ("grey", "none"):
            raise ValueError(
                f"channels: grey and invert: none while source.kind is text, whose bytes stay as they are; got {self.channels}, {self.invert}"
            )
        if self.source.kind == "text" and self.source.window > self.max_pixels:
            raise ValueError(
                f"source.window: found {self.source.window:,} bytes, expected: at most max_pixels, {self.max_pixels:,}"
            )
        for key in ("test_path", "test_alphabets"):
            if getattr(self.source, key, None) and self.splits.test > 0:
                raise ValueError(
                    f"splits.test: 0 while source.{key} gives the test split; got splits.test: {self.splits.test:g}"
                )
        return self

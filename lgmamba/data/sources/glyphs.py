"""Letters of many alphabets, drawn from fonts: pen-like characters without a file of images.

By default the fonts are the DejaVu families that matplotlib brings along. A letter is a code point of category L that no
compatibility decomposition takes apart, so no accented letters, ligatures or mathematical styles; its alphabet is the first word
of its Unicode name.
"""

import itertools
import logging
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lgmamba.config.data import GlyphsSource
from lgmamba.data.artefact import SourceRecord
from lgmamba.data.decode import Payload
from lgmamba.data.errors import DataError
from lgmamba.data.local import check_folder
from lgmamba.data.sources import Index, Place
from lgmamba.files import file_digest

log = logging.getLogger(__name__)

SUFFIXES = (".ttf", ".otf")
FILLED = 0.85
"""Share of the image's side that the longer side of a letter takes at most."""


class Glyphs:
    """Fonts as an image source; see `lgmamba.data.sources.ImageSource`. Black ink on white paper.

    An image's id is `<font file>:U+<code point>`; its label is its alphabet. Letters of a test alphabet that look, pixel for pixel,
    like a letter of the others (Greek and Latin A) are left out, so that nothing tested was trained on.
    """

    packages = ("matplotlib", "fonttools")

    def __init__(self, config: GlyphsSource):
        self.config = config

    def index(self) -> Index:
        self.fonts = find_fonts(self.config.path)
        found = [(font, code) for font in self.fonts for code in self._letters(font)]
        found = [
            (font, code, image) for font, code in found if (image := draw(font, code, self.config.side)) is not None
        ]
        alphabets = sorted({alphabet_of(code) for _, code, _ in found})
        tested = self.config.test_alphabets
        for key, names in (("alphabets", self.config.alphabets or []), ("test_alphabets", tested)):
            if missing := [name for name in names if name not in alphabets]:
                raise DataError(
                    f"data.source.{key}: found {missing[0]}, of which no font here has a letter; expected some of: {', '.join(alphabets)}"
                )
        if not set(alphabets) - set(tested):
            raise DataError(
                f"data.source.test_alphabets: found every alphabet that there is ({', '.join(alphabets)}); expected one to train on"
            )
        trained = {image.tobytes() for _, code, image in found if alphabet_of(code) not in tested}
        kept = [(f, c, i) for f, c, i in found if alphabet_of(c) not in tested or i.tobytes() not in trained]
        if len(kept) < len(found):
            log.info("glyphs: %d test letters that look like training letters are left out", len(found) - len(kept))
        self.found = kept
        ids = [f"{font.name}:U+{code:04X}" for font, code, _ in kept]
        names = [alphabet_of(code) for _, code, _ in kept]
        labels = np.array([alphabets.index(name) for name in names], np.int64)
        is_test = np.array([name in tested for name in names])
        for name in tested:
            if name not in names:
                raise DataError(
                    f"data.source.test_alphabets: every letter of {name} looks like one of the other alphabets; expected one with letters "
                    "of its own"
                )
        return Index(ids, labels, is_test, lambda i: Place(ids[i]), alphabets)

    def read(self, wanted: np.ndarray) -> Iterator[tuple[int, Payload]]:
        for i in np.flatnonzero(wanted):
            yield int(i), self.found[i][2]

    def digests(self, wanted: np.ndarray) -> list[SourceRecord]:
        """One record a font and split."""
        records = []
        tested = np.array([alphabet_of(code) in self.config.test_alphabets for _, code, _ in self.found])
        for font in self.fonts:
            own = np.array([path == font for path, _, _ in self.found])
            for is_test in (False, True):
                n = int((wanted & own & (tested == is_test)).sum())
                if n:
                    split, size = "test" if is_test else "train", font.stat().st_size
                    records.append(
                        SourceRecord(
                            name=font.name, official_split=split, n_images=n, n_bytes=size, sha256=file_digest(font)
                        )
                    )
        return records

    def _letters(self, font: Path) -> list[int]:
        letters = [code for code in code_points(font) if is_letter(code)]
        if not letters:
            raise DataError(f"{font}: this font has no letter; take it out of the folder")
        wanted = self.config.alphabets
        return [c for c in letters if wanted is None or alphabet_of(c) in (*wanted, *self.config.test_alphabets)]


def find_fonts(folder: str | None) -> list[Path]:
    """The fonts of a folder and those below it, sorted by name; null: matplotlib's DejaVu.

    Raises:
        DataError: no folder (as `check_folder` says), no font, or two of one name, which ids could not tell apart.
    """
    if folder is None:
        from matplotlib import get_data_path

        fonts = (Path(get_data_path()) / "fonts" / "ttf").glob("DejaVu*.ttf")
        return sorted(font for font in fonts if "Display" not in font.name)  # which has no letters
    root = Path(folder).expanduser()
    check_folder(root, "fonts")
    fonts = sorted((p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES), key=lambda p: (p.name, p))
    if not fonts:
        raise DataError(f"data.source.path: found no font in {folder!r}, expected: files {' or '.join(SUFFIXES)}")
    for before, font in itertools.pairwise(fonts):
        if before.name == font.name:
            raise DataError(
                f"{font} and {before} have one name; expected: a name for each font, which the ids of its letters hold"
            )
    return fonts


def code_points(font: Path) -> list[int]:
    """Code points of a font, ascending.

    Raises:
        DataError: it cannot be read as one.
    """
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with font.open("rb") as file, TTFont(file, lazy=True) as opened:
            return sorted(opened.getBestCmap() or {})
    except (OSError, TTLibError, KeyError) as e:
        raise DataError(f"{font}: cannot be read as a font ({e}); remove it from the folder") from None


def is_letter(code: int) -> bool:
    """Whether a code point is a letter that nothing takes apart."""
    character = chr(code)
    return (
        unicodedata.category(character) in ("Lu", "Ll", "Lo") and unicodedata.normalize("NFKD", character) == character
    )


@cache
def alphabet_of(code: int) -> str:
    """First word of the Unicode name, in small letters; "unnamed" where there is none."""
    return unicodedata.name(chr(code), "UNNAMED").split()[0].split("-")[0].lower()


def draw(font: Path, code: int, side: int) -> np.ndarray | None:
    """One letter in the middle of a square, as large as in its font, or smaller where it would not fit: (side, side) uint8.

    Returns:
        None where the letter has no ink.
    """
    character = chr(code)
    opened = _opened(font, round(side * FILLED))
    left, top, right, bottom = opened.getbbox(character)
    longest = max(right - left, bottom - top)
    if longest > FILLED * side:
        opened = _opened(font, max(1, int(round(side * FILLED) * FILLED * side / longest)))
        left, top, right, bottom = opened.getbbox(character)
    image = Image.new("L", (side, side), 255)
    corner = ((side - (right - left)) // 2 - left, (side - (bottom - top)) // 2 - top)
    ImageDraw.Draw(image).text(corner, character, fill=0, font=opened)
    pixels = np.asarray(image)
    return None if (pixels == 255).all() else pixels


@cache
def _opened(font: Path, size: int) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(str(font), size, layout_engine=ImageFont.Layout.BASIC)  # raqm is not everywhere
    except OSError as e:
        raise DataError(f"{font}: cannot be drawn ({e}); remove it from the folder") from None

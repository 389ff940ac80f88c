"""What parts of a page look like, coarsely: their form, and a grid of mean brightness, which kept pictures in looks/ are compared with.

Fonts differ between machines, so letters are nothing here: a cell is wider than a word is high, each part is looked at by itself, so
that a line more above it moves nothing, and the form of a part may differ by a fourth. What fails is gross: nothing drawn, colours
of the other mode, cards below each other that stand side by side.
"""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

KEPT = Path(__file__).parent / "looks"
KEEP_ANEW = "LGMAMBA_KEEP_LOOKS"
"""Where this is set, what is seen is kept as right; look at it before it is committed."""
PARTS = ("#pictures", ".u-over", ".map")
ROWS, COLUMNS = 24, 48
MOST_DIFFERENT = 24
"""Of brightness, 0 to 255, in the mean over a part's cells."""
LEAST_ALIKE = 0.75
"""Correlation of brightness over a part's cells: thin lines on a wide ground are seen here."""
FORM = 1.25
"""Factor by which height by width may differ."""


def screenshot(page) -> Image.Image:
    """The whole page as it is now."""
    return Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")


def seen(page, whole: Image.Image) -> dict[str, tuple[float, np.ndarray]]:
    """Part -> height by width, and (ROWS, COLUMNS) brightness, 0 to 255, of a page and its screenshot."""
    found = {}
    for part in PARTS:
        box = page.locator(part).first.bounding_box()
        corners = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
        cells = whole.crop(tuple(map(round, corners))).convert("L").resize((COLUMNS, ROWS), Image.Resampling.BOX)
        found[part] = (box["height"] / box["width"], np.asarray(cells, dtype=float))
    return found


def wrong(page, whole: Image.Image, name: str) -> list[str]:
    """What of a page and its screenshot looks grossly unlike the kept picture of that name, in words."""
    found, file = seen(page, whole), KEPT / f"{name}.png"
    if os.environ.get(KEEP_ANEW):
        keep(found, file)
    with Image.open(file) as image:
        kept = np.asarray(image.convert("L"), dtype=float).reshape(len(PARTS), ROWS, COLUMNS)
        forms = [float(image.text[part]) for part in PARTS]
    return [
        f"{part} {words}"
        for (part, (form, cells)), kept_form, kept_cells in zip(found.items(), forms, kept, strict=True)
        for words in unlike(form, cells, kept_form, kept_cells)
    ]


def unlike(form: float, cells: np.ndarray, kept_form: float, kept_cells: np.ndarray) -> list[str]:
    """How far a part is from the kept one, where it is too far."""
    different = np.abs(cells - kept_cells).mean()
    spread = cells.std() * kept_cells.std()
    alike = 0 if spread == 0 else ((cells - cells.mean()) * (kept_cells - kept_cells.mean())).mean() / spread
    said = {
        f"has another form: height {form:.2f} of its width, kept {kept_form:.2f}": not 1 / FORM
        < form / kept_form
        < FORM,
        f"is brighter or darker: by {different:.0f} in the mean": different > MOST_DIFFERENT,
        f"shows something else: correlation {alike:.2f}": alike < LEAST_ALIKE,
    }
    return [words for words, holds in said.items() if holds]


def keep(found: dict[str, tuple[float, np.ndarray]], file: Path) -> None:
    """The parts below each other as one small picture, their forms as texts in it."""
    from PIL.PngImagePlugin import PngInfo

    forms = PngInfo()
    for part, (form, _) in found.items():
        forms.add_text(part, f"{form:.4f}")
    file.parent.mkdir(exist_ok=True)
    stacked = np.concatenate([cells for _, cells in found.values()]).round().astype(np.uint8)
    Image.fromarray(stacked).save(file, optimize=True, pnginfo=forms)

"""The pictures of a study: the same few held-out images as every run reconstructs them, step after step."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lgmamba.analysis.collect import CollectError, RunFolder
from lgmamba.analysis.files import write_arrays
from lgmamba.analysis.strips import Strip, pack_all
from lgmamba.metrics import psnr
from lgmamba.tasks.draw.config import DrawConfig
from lgmamba.tasks.queried.config import QueriedConfig

BYTES = 850_000
"""That pictures of a study may take: what holds them is kept in git and sent as one page."""


@dataclass(frozen=True)
class Panel:
    """Reconstructions to look at.

    Glossary: M images; a cell is a patch of a grid, a place a patch at any pixel (`lgmamba.tasks.queried.places`), P its side.

    Attributes:
        images: (M,) rows of the image artefact.
        targets: (M, C, H, W) uint8.
        cells: (M, T) cell, or place, read at each step.
        strips: {run: {image of the panel: its reconstructions}}; first seed.
        patch_size: side of a patch, pixels.
        seed: whose reconstructions they are.
        reads: what is read at a step, "cells" of a grid or "places".
    """

    images: np.ndarray
    targets: np.ndarray
    cells: np.ndarray
    strips: dict[str, dict[int, Strip]]
    patch_size: int
    seed: int
    reads: str = "cells"

    @property
    def steps(self) -> list[int]:
        """Steps, patches read, of which there is a picture; ascending."""
        return sorted(
            {int(step) for strips in self.strips.values() for strip in strips.values() for step in strip.steps}
        )

    def target(self, image: int) -> np.ndarray:
        """(C, H, W) float32 in [0, 1]; `image` counts within the panel."""
        return self.targets[image].astype(np.float32) / 255

    def reconstruction(self, run: str, step: int, image: int) -> np.ndarray:
        """(C, H, W) float32 in [0, 1].

        Raises:
            ValueError: no such picture is kept.
        """
        strip, at = self._find(run, step, image)
        return strip.tiles[at].astype(np.float32) / 255

    def psnr(self, run: str, step: int, image: int) -> float:
        """PSNR of one reconstruction as the run made it, dB.

        Raises:
            ValueError: no such picture is kept.
        """
        strip, at = self._find(run, step, image)
        return float(psnr(float(strip.mse[at])))

    def ages(self, step: int, image: int) -> np.ndarray:
        """(H, W) int64, steps since a pixel was last read: 0 at the step itself, -1 for a pixel not read so far."""
        if not 1 <= step <= self.cells.shape[1]:
            raise ValueError(f"the panel has no step {step}; it has 1 to {self.cells.shape[1]}")
        last, turns = np.full(self.targets.shape[2:], -1, dtype=np.int64), np.arange(step)
        y, x = self.corner(self.cells[image, :step].astype(np.int64))
        for dy, dx in np.ndindex(self.patch_size, self.patch_size):
            np.maximum.at(last, (y + dy, x + dx), turns)
        return np.where(last >= 0, step - 1 - last, -1)

    def mask(self, step: int, image: int) -> np.ndarray:
        """(H, W) bool: pixels read up to the step."""
        return self.ages(step, image) >= 0

    def corner(self, cell: int | np.ndarray) -> tuple[int, int]:
        """Row and column of the upper left pixel of a cell or place, or of many."""
        P, W = self.patch_size, self.targets.shape[3]
        if self.reads == "places":
            return divmod(cell, W - P + 1)
        row, column = divmod(cell, W // P)
        return row * P, column * P

    def cell_mask(self, cell: int) -> np.ndarray:
        """(H, W) bool: pixels of one cell or place."""
        one, P, (y, x) = np.zeros(self.targets.shape[2:], dtype=bool), self.patch_size, self.corner(cell)
        one[y : y + P, x : x + P] = True
        return one

    def _find(self, run: str, step: int, image: int) -> tuple[Strip, int]:
        strip = self.strips.get(run, {}).get(image)
        found = [] if strip is None else np.flatnonzero(strip.steps == step).tolist()
        if strip is None or not found:
            raise ValueError(f"the panel has no picture of image {image} by {run} at step {step}")
        return strip, found[0]


def collect_panel(folders: list[RunFolder], shown: str) -> Panel:
    """The first seed's panels of the runs that read patches of one size; places of other patches are others.

    Args:
        shown: run whose patches they are.

    Raises:
        CollectError: runs show different images, read them in different orders, or were asked for pictures at other steps.
    """
    from safetensors.numpy import load_file

    seed, task = folders[0].seed, next(folder.config.task for folder in folders if folder.run == shown)
    assert isinstance(task, DrawConfig | QueriedConfig)  # those with pictures
    alike = [f for f in folders if f.seed == seed and f.config.task.patch_size == task.patch_size]  # type: ignore[union-attr]
    panels = {folder.run: load_file(folder.path / "evaluation/panel.safetensors") for folder in alike}
    first_run, first = next(iter(panels.items()))
    for run, panel in panels.items():
        for name in ("images", "cells", "steps"):
            if not np.array_equal(panel[name], first[name]):
                what = {"images": "images", "cells": "visiting orders", "steps": "steps"}[name]
                raise CollectError(f"{run} seed {seed}: its panel shows other {what} than {first_run}")
    pictures = {
        (run, image): panel["reconstructions"][:, image]
        for run, panel in panels.items()
        for image in range(len(first["images"]))
    }
    strips: dict[str, dict[int, Strip]] = {run: {} for run in panels}
    for ((run, image), tiles), webp in zip(pictures.items(), pack_all(list(pictures.values()), BYTES), strict=True):
        strips[run][image] = Strip(first["steps"], panels[run]["mse"][:, image], webp, tiles.shape[1:])
    return Panel(
        images=first["images"],
        targets=first["targets"],
        cells=_narrow(first["cells"]),
        strips=strips,
        patch_size=task.patch_size,
        seed=seed,
        reads=task.READS,
    )


def _narrow(cells: np.ndarray) -> np.ndarray:
    """Whole numbers >= 0 in the smallest type that holds them."""
    return cells.astype(np.min_scalar_type(int(cells.max())))


def write_panel(panel: Panel, path: Path) -> None:
    """The panel as one safetensors file."""
    arrays = {name: getattr(panel, name) for name in ("images", "targets", "cells")}
    for run, strips in panel.strips.items():
        for image, strip in strips.items():
            webp = np.frombuffer(strip.webp, dtype=np.uint8)
            arrays |= {
                f"{run}/{image}/{name}": v for name, v in (("steps", strip.steps), ("mse", strip.mse), ("webp", webp))
            }
    known = {"patch_size": panel.patch_size, "seed": panel.seed, "reads": panel.reads, "runs": list(panel.strips)}
    write_arrays(arrays, path, {"panel": json.dumps(known)})


def read_panel(path: Path) -> Panel:
    """A panel written by `write_panel`."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        known = json.loads(file.metadata()["panel"])
    own = {name: arrays.pop(name) for name in ("images", "targets", "cells")}
    shape = own["targets"].shape[1:]
    strips: dict[str, dict[int, Strip]] = {run: {} for run in known.pop("runs")}
    for name in sorted(name for name in arrays if name.endswith("/webp")):
        run, image, _ = name.split("/")
        steps, mse = (arrays[f"{run}/{image}/{what}"] for what in ("steps", "mse"))
        strips[run][int(image)] = Strip(steps, mse, arrays[name].tobytes(), shape)
    return Panel(**own, strips=strips, **known)

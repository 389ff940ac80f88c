"""The pictures of a study: the same few held-out images, reconstructed by every run at the steps that all runs share."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lgmamba.analysis.collect import CollectError, RunFolder
from lgmamba.analysis.files import write_arrays
from lgmamba.metrics import psnr
from lgmamba.tasks.draw.config import DrawConfig
from lgmamba.tasks.queried.config import QueriedConfig


@dataclass(frozen=True)
class Panel:
    """Reconstructions to look at.

    Glossary: S steps, M images, G grid cells; a place is a patch at any pixel (`lgmamba.tasks.queried.places`), P its side.

    Attributes:
        steps: (S,) patches read, ascending.
        images: (M,) rows of the image artefact.
        targets: (M, C, H, W) uint8.
        seen: (S, M, G) bool, cells read up to the step; with places (S, M, H W), pixels.
        cells: (M, T) cell, or place, read at each step.
        reconstructions: {run: {(step, image of the panel): (C, H, W) float16}}, raw: not clipped to [0, 1]; first seed.
        patch_size: side of a patch, pixels.
        seed: whose reconstructions they are.
        reads: what is read at a step, "cells" of a grid or "places".
    """

    steps: np.ndarray
    images: np.ndarray
    targets: np.ndarray
    seen: np.ndarray
    cells: np.ndarray
    reconstructions: dict[str, dict[tuple[int, int], np.ndarray]]
    patch_size: int
    seed: int
    reads: str = "cells"

    def target(self, image: int) -> np.ndarray:
        """(C, H, W) float32 in [0, 1]; `image` counts within the panel."""
        return self.targets[image].astype(np.float32) / 255

    def reconstruction(self, run: str, step: int, image: int) -> np.ndarray:
        """(C, H, W) float32, raw.

        Raises:
            ValueError: no such picture is kept.
        """
        if (found := self.reconstructions[run].get((step, image))) is None:
            raise ValueError(f"the panel has no picture of image {image} by {run} at step {step}")
        return found.astype(np.float32)

    def mask(self, step: int, image: int) -> np.ndarray:
        """(H, W) bool: pixels read up to the step."""
        seen, P, (H, W) = self.seen[self._at(step), image], self.patch_size, self.targets.shape[2:]
        if self.reads == "places":
            return seen.reshape(H, W)
        return np.kron(seen.reshape(H // P, W // P), np.ones((P, P), dtype=bool)).astype(bool)

    @property
    def n_cells(self) -> int | None:
        """Cells of an image; None where places are read."""
        return self.seen.shape[2] if self.reads == "cells" else None

    def corner(self, cell: int) -> tuple[int, int]:
        """Row and column of the upper left pixel of a cell or place."""
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

    def psnr(self, run: str, step: int, image: int) -> float:
        """PSNR of one picture, dB."""
        mse = float(np.mean((self.reconstruction(run, step, image) - self.target(image)) ** 2))
        return float(psnr(mse))

    def _at(self, step: int) -> int:
        found = np.flatnonzero(self.steps == step)
        if not len(found):
            raise ValueError(f"the panel has no step {step}; it has {self.steps.tolist()}")
        return int(found[0])


def collect_panel(folders: list[RunFolder]) -> Panel:
    """The first seed's panels of all runs, at the steps that they share.

    Raises:
        CollectError: runs show different images or read them in different orders.
    """
    from safetensors.numpy import load_file

    seed = folders[0].seed
    panels = {
        folder.run: load_file(folder.path / "probe/panel.safetensors") for folder in folders if folder.seed == seed
    }
    first = next(iter(panels.values()))
    steps = sorted(set.intersection(*(set(p["steps"].tolist()) for p in panels.values())))
    T = min(p["cells"].shape[1] for p in panels.values())
    for run, panel in panels.items():
        same = np.array_equal(panel["images"], first["images"]) and np.array_equal(
            panel["cells"][:, :T], first["cells"][:, :T]
        )
        if not same:
            raise CollectError(
                f"{run} seed {seed}: its panel shows other images, or other visiting orders, than {folders[0].run}"
            )

    def at(panel: dict[str, np.ndarray]) -> np.ndarray:
        return np.searchsorted(panel["steps"], steps)

    def pictures(panel: dict[str, np.ndarray]) -> dict[tuple[int, int], np.ndarray]:
        rows = zip(steps, panel["reconstructions"][at(panel)], strict=True)
        return {(step, image): picture for step, row in rows for image, picture in enumerate(row)}

    task = folders[0].config.task
    assert isinstance(task, DrawConfig | QueriedConfig)  # those with pictures
    return Panel(
        steps=np.array(steps),
        images=first["images"],
        targets=first["targets"],
        seen=first["seen"][at(first)],
        cells=first["cells"][:, :T],
        reconstructions={run: pictures(panel) for run, panel in panels.items()},
        patch_size=task.patch_size,
        seed=seed,
        reads=task.READS,
    )


def shown(panel: Panel, *drawn: pl.DataFrame) -> Panel:
    """The panel with no reconstructions but those of figures.

    Args:
        drawn: frames of the figures, one row for each tile: run (null for tiles that are no reconstruction), step, image.
    """
    tiles = {tile for frame in drawn for tile in frame.drop_nulls("run").select("run", "step", "image").rows()}
    kept = {
        run: {key: picture for key, picture in pictures.items() if (run, *key) in tiles}
        for run, pictures in panel.reconstructions.items()
    }
    return replace(panel, reconstructions={run: pictures for run, pictures in kept.items() if pictures})


def write_panel(panel: Panel, path: Path) -> None:
    """The panel as one safetensors file."""
    arrays = {name: getattr(panel, name) for name in ("steps", "images", "targets", "seen", "cells")}
    for run, pictures in panel.reconstructions.items():
        arrays |= {
            f"reconstructions/{run}": np.stack(list(pictures.values())),
            f"tiles/{run}": np.array(list(pictures)),
        }
    known: dict[str, Any] = {"patch_size": panel.patch_size, "seed": panel.seed}
    if panel.reads != "cells":  # files of studies of cells stay what they are
        known["reads"] = panel.reads
    write_arrays(arrays, path, {"panel": json.dumps(known)})


def read_panel(path: Path) -> Panel:
    """A panel written by `write_panel`."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        known = json.loads(file.metadata()["panel"])
    runs = [name.removeprefix("tiles/") for name in arrays if name.startswith("tiles/")]
    pictures = {
        run: dict(
            zip(map(tuple, arrays.pop(f"tiles/{run}").tolist()), arrays.pop(f"reconstructions/{run}"), strict=True)
        )
        for run in runs
    }
    return Panel(**arrays, reconstructions=pictures, **known)

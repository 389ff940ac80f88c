"""Where patches are read: positions of P x P patches on the pixels of an image, independent of any grid.

A place is a number: y x (W - P + 1) + x for the patch whose upper left pixel is (y, x); there are
(H - P + 1)(W - P + 1) places, and every patch at a place lies inside the image. Laws of places:

    uniform     independent, every place equally often; overlaps and repeats are normal
    gaussian    independent, patch centres normal around the image centre with a sixth of each side as deviation,
                rounded to pixels; those outside go to the edge
    quadrants   a quarter of `period` steps in each quadrant of the places, in a fresh random order of the quadrants
                each time; uniform inside a quadrant
    grid        patches side by side, row by row, the last of a row or column at the edge; repeated
    raster      every place row by row, a pixel apart; repeated
    every       every place once in random order, then a fresh random order, and so on

The first t steps of a sequence are a sequence of t steps: a longer one only appends. Places of held-out images are a pure
function of (image, repeat, step), made block by block, so that a sequence of any length takes no memory.

Glossary: B sequences; H, W image height and width, P patch side (pixels).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.tasks.seeds import seed_of_repeat

BLOCK = 1024
"""Steps of a block where a law has no period of its own."""

BLOCK_STRIDE = 0xC2B2AE3D27D4EB4F
"""Keeps the seeds of the blocks of a sequence apart from those of other sequences."""


@dataclass(frozen=True)
class Field:
    """The places of an image.

    Attributes:
        height, width: of the image, pixels.
        patch_size: P, pixels.
        period: steps after which `quadrants` has been in all four; a multiple of 4.
    """

    height: int
    width: int
    patch_size: int
    period: int = 4

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of places."""
        return self.height - self.patch_size + 1, self.width - self.patch_size + 1

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def corners(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of the upper left pixel."""
        columns = self.shape[1]
        return places // columns, places % columns

    def place(self, y: Tensor, x: Tensor) -> Tensor:
        """The place whose upper left pixel is (y, x)."""
        return y * self.shape[1] + x

    def centres(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """(x, y) of the patch centre from the image centre, pixels, to the right and down; float32."""
        y, x = self.corners(places)
        half = self.patch_size / 2
        return x + (half - self.width / 2), y + (half - self.height / 2)


def field_of(height: int, width: int, patch_size: int, L0: int = 1) -> Field:
    """The places of an image, for training sequences of up to L0 steps.

    Raises:
        ConfigError: the image is smaller than a patch.
    """
    if patch_size > min(height, width):
        raise ConfigError(
            f"task.patch_size: found {patch_size}, expected at most {min(height, width)}: the images have "
            f"{height} x {width} pixels, and a patch must lie inside"
        )
    return Field(height, width, patch_size, 4 * -(-L0 // 4))


def draw_places(law: str, field: Field, batch: int, steps: int, generator: torch.Generator) -> Tensor:
    """Places of training sequences.

    Args:
        law: a key of `LAWS`.
        generator: source of randomness; the result lives on its device.
    Returns:
        (B, T) int64.
    """
    size = block_steps(law, field)
    blocks = [LAWS[law](field, batch, size, generator) for _ in range(max(1, -(-steps // size)))]
    return torch.cat(blocks, dim=1)[:, :steps] if len(blocks) > 1 else blocks[0][:, :steps]


def block_steps(law: str, field: Field) -> int:
    """Steps after which a law starts afresh."""
    if law not in LAWS:
        raise ConfigError(f"order: found {law!r}, expected one of {sorted(LAWS)}")
    return {"quadrants": field.period, "grid": len(grid_places(field)), "raster": len(field), "every": len(field)}.get(
        law, BLOCK
    )


class HeldOutPlaces:
    """Places that belong to images: the same in every call, whatever else is read.

    Args:
        law: a key of `LAWS`.
        id_hash: (M,) int64 >= 0, hash of each image's id.
        repeat: which of an image's sequences.
        device: where places go.
    """

    def __init__(
        self, law: str, field: Field, id_hash: Tensor, repeat: int, device: torch.device | str = "cpu"
    ) -> None:
        self.law, self.field, self.repeat, self.device = law, field, repeat, device
        self.hashes = id_hash.tolist()
        self.size = block_steps(law, field)
        self._block: tuple[int, Tensor] | None = None

    def read(self, start: int, stop: int) -> Tensor:
        """Places of the steps start + 1 .. stop: (M, stop - start) int64."""
        parts, at = [], start
        while at < stop:
            number, first = divmod(at, self.size)
            last = min(self.size, first + stop - at)
            parts.append(self._of(number)[:, first:last])
            at += last - first
        if not parts:
            return torch.empty(len(self.hashes), 0, dtype=torch.int64, device=self.device)
        return torch.cat(parts, dim=1).to(self.device)

    def _of(self, number: int) -> Tensor:
        if self._block is None or self._block[0] != number:
            generator, rows = torch.Generator(), []
            for image in self.hashes:
                generator.manual_seed((seed_of_repeat(image, self.repeat) + number * BLOCK_STRIDE) % 2**63)
                rows.append(LAWS[self.law](self.field, 1, self.size, generator)[0])
            self._block = number, torch.stack(rows)
        return self._block[1]


def grid_places(field: Field, stride: int | None = None) -> Tensor:
    """Places that cover the image, row by row: every `stride` pixels (a patch side by default), and at the far edges.

    Returns:
        (G,) int64 on the CPU. With a stride of at most P every pixel lies in a patch.
    """
    if stride is not None and not 1 <= stride <= field.patch_size:
        raise ConfigError(
            f"stride: found {stride}, expected 1 to {field.patch_size}, the patch side, so that no pixel is left out"
        )
    rows, columns = (_along(n, stride or field.patch_size) for n in field.shape)
    return field.place(rows[:, None], columns[None, :]).flatten()


def check_places(places: Tensor, field: Field) -> None:
    """Refuse places outside the image.

    Raises:
        ConfigError: the first of them.
    """
    outside = (places < 0) | (places >= len(field))
    if bool(outside.any()):
        raise ConfigError(
            f"queries: found place {int(places[outside][0])}, expected 0 to {len(field) - 1}: patches of {field.patch_size} "
            f"pixels inside images of {field.height} x {field.width}"
        )


def _along(n: int, stride: int) -> Tensor:
    starts = [*range(0, n, stride)]
    return torch.tensor(
        starts if starts[-1] == n - 1 else [*starts, n - 1], device="cpu"
    )  # also while sizes alone are asked for


def _uniform(field: Field, batch: int, steps: int, g: torch.Generator) -> Tensor:
    return torch.randint(len(field), (batch, steps), generator=g, device=g.device)


def _gaussian(field: Field, batch: int, steps: int, g: torch.Generator) -> Tensor:
    sides = torch.tensor([field.height, field.width], device=g.device)
    last = torch.tensor(field.shape, device=g.device) - 1
    normal = torch.randn(batch, steps, 2, generator=g, device=g.device)
    corners = (last / 2 + normal * sides / 6).round().long()
    y, x = torch.minimum(corners.clamp(min=0), last).unbind(-1)
    return field.place(y, x)


def _quadrants(field: Field, batch: int, steps: int, g: torch.Generator) -> Tensor:
    quarter = torch.rand(batch, 4, generator=g, device=g.device).argsort(-1)
    quarter = quarter.repeat_interleave(field.period // 4, dim=1)[:, :steps]  # (B, steps)
    u = torch.rand(batch, steps, 2, generator=g, device=g.device)
    corners = []
    for axis, n in enumerate(field.shape):
        half = n // 2
        second = (quarter // 2 if axis == 0 else quarter % 2) > 0
        size = torch.where(second, n - half, max(half, 1))  # a single row is in both halves
        corners.append(torch.where(second, half, 0) + (u[..., axis] * size).long())
    return field.place(*corners)


def _every(field: Field, batch: int, steps: int, g: torch.Generator) -> Tensor:
    return torch.rand(batch, len(field), generator=g, device=g.device).argsort(-1)[:, :steps]


def _path(places: Callable[[Field], Tensor]) -> Callable[[Field, int, int, torch.Generator], Tensor]:
    """The same places for every sequence."""

    def law(field: Field, batch: int, steps: int, g: torch.Generator) -> Tensor:
        return places(field)[:steps].to(g.device).expand(batch, -1)

    return law


LAWS: dict[str, Callable[[Field, int, int, torch.Generator], Tensor]] = {
    "uniform": _uniform,
    "gaussian": _gaussian,
    "quadrants": _quadrants,
    "grid": _path(grid_places),
    "raster": _path(lambda field: torch.arange(len(field))),
    "every": _every,
}
"""Law -> a block of `block_steps` places, (B, block) int64."""

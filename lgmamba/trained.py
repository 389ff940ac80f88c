"""A trained model and what it draws, in two lines: `lgmamba.load("model.safetensors").reconstruct(image, order, steps)`.

Glossary, with those of `lgmamba.tasks.draw.task` and `lgmamba.tasks.queried.task`: B images (B, C, H, W), S steps looked at,
T steps of a sequence, L0 the longest training length.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig
from lgmamba.data.dataset import in_memory
from lgmamba.model.runner import MODES, run_sequence
from lgmamba.model.sequences import SequenceModel, Sequences
from lgmamba.tasks.class_head import parted
from lgmamba.tasks.draw.config import DrawConfig
from lgmamba.tasks.draw.sequences import sequences_along
from lgmamba.tasks.queried.config import QueriedConfig
from lgmamba.tasks.queried.places import field_of
from lgmamba.tasks.queried.sequences import QueriedSequences
from lgmamba.tasks.registry import build_task
from lgmamba.train.checkpoint import load_model


def load(path: Path | str, device: torch.device | str = "cpu") -> "TrainedModel":
    """A trained model, ready to read images.

    Args:
        path: `model.safetensors`, as `lgmamba train` wrote it; it holds weights and configuration.
        device: where the model goes.
    Raises:
        ConfigError: the file is missing or no checkpoint of this project.
    """
    model, run = load_model(path, device)
    return TrainedModel(model, run)


class TrainedModel:
    """A trained model with the run that trained it.

    Attributes:
        model: in eval mode.
        run: its configuration: `run.L0`, `run.task`, `run.model`, `run.train`.
    """

    def __init__(self, model: SequenceModel, run: RunConfig):
        self.model, self.run = model, run

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that it reads, pixels."""
        return self.model.shape

    def reconstruct(
        self,
        image: Tensor | ArrayLike,
        order: str | Tensor | ArrayLike | None = None,
        steps: int | Iterable[int] | None = None,
        *,
        places: Tensor | ArrayLike | None = None,
        mode: str = "prefix",
        repeat: int = 0,
    ) -> Tensor:
        """What the model draws of images after some of the patches that it reads.

        Args:
            image: (C, H, W) or several, (B, C, H, W); (H, W) for a grey one. uint8, or numbers from 0 to 1, which are rounded to
                the 256 levels that models are trained on.
            order: name of an order in which patches are read (of the task's: `permutation`, `raster`, ...; `uniform`, ... for
                queried patches), that of training by default. Or, for task `draw`, the cells themselves, counted row by row
                from 0: (T,) for all images or (B, T).
            steps: after how many patches to draw, ascending; L0 by default. With a named order as many patches as that are read.
            places: for task `queried`, instead of an order: row and column of the upper left pixel of every patch that is read,
                (T, 2) for all images or (B, T, 2).
            mode: what a length-adaptive model is told, `prefix` (each of the steps) or `stream` (L0), see `lgmamba.model.runner`;
                a plain model is told nothing.
            repeat: another number is another draw of a random order.
        Returns:
            (S, C, H, W) of one image, (B, S, C, H, W) of several, on the model's device; white is 1, not clipped to 0..1.
        Raises:
            ConfigError: an argument does not fit the model; says which, what was found and what was expected.
        """
        prediction, _ = self._predict(image, order, steps, places, mode, repeat)
        return prediction

    def classify(
        self,
        image: Tensor | ArrayLike,
        order: str | Tensor | ArrayLike | None = None,
        steps: int | Iterable[int] | None = None,
        *,
        places: Tensor | ArrayLike | None = None,
        mode: str = "prefix",
        repeat: int = 0,
    ) -> Tensor:
        """Which class the model takes images for after some of the patches; arguments as of `reconstruct`.

        Returns:
            (S, K) of one image, (B, S, K) of several: scores, of which the softmax gives probabilities.
        Raises:
            ConfigError: the model has no class head, or an argument does not fit the model.
        """
        if self.run.model.class_head is None:
            raise ConfigError(
                f"classify: the model of run {self.run.run!r} names no class; expected one trained with model.class_head"
            )
        _, scores = self._predict(image, order, steps, places, mode, repeat)
        assert scores is not None  # of a class head
        return scores

    def _predict(
        self,
        image: Tensor | ArrayLike,
        order: str | Tensor | ArrayLike | None,
        steps: int | Iterable[int] | None,
        places: Tensor | ArrayLike | None,
        mode: str,
        repeat: int,
    ) -> tuple[Tensor, Tensor | None]:
        """Pictures and, with a class head, scores."""
        if not isinstance(self.run.task, DrawConfig | QueriedConfig):
            raise ConfigError(
                f"reconstruct: the model of run {self.run.run!r} has task {self.run.task.kind}, which reads no images; "
                "expected one of task draw or queried"
            )
        if mode not in MODES:
            raise ConfigError(f"mode: found {mode!r}, expected one of {', '.join(MODES)}")
        images, single = self._images(image)
        wanted = _ascending([self.run.L0] if steps is None else steps)
        sequences = self._sequences(images, order, places, wanted[-1], repeat)
        if wanted[-1] > sequences.T:
            raise ConfigError(f"steps: found {wanted[-1]}, expected at most {sequences.T}, the patches that are read")
        prediction = run_sequence(self.model, sequences, wanted, mode)
        return parted(prediction[0] if single else prediction, self.image_shape)

    def _images(self, image: Tensor | ArrayLike) -> tuple[Tensor, bool]:
        """uint8 (B, C, H, W) on the model's device, and whether it was a single one."""
        values = torch.as_tensor(np.asarray(image) if not isinstance(image, Tensor) else image)
        C, H, W = self.image_shape
        if values.dim() == 2 and C == 1:
            values = values[None]
        single = values.dim() == 3
        if tuple(values.shape[-3:]) != (C, H, W) or values.dim() not in (3, 4) or not len(values):
            raise ConfigError(
                f"image: found shape {tuple(np.shape(image))}, expected ({C}, {H}, {W}), channels first, or (B, {C}, {H}, {W}): "
                "scale and cut it as the study's images were"
            )
        values = values[None] if single else values
        if values.dtype == torch.bool:
            values = values.float()
        if values.is_floating_point():
            low, high = values.aminmax()
            if not (low >= 0 and high <= 1):  # NaN too
                raise ConfigError(
                    f"image: found values from {low:g} to {high:g}, expected 0 to 1, or uint8 from 0 to 255"
                )
            values = (values * 255).round().to(torch.uint8)
        elif values.dtype != torch.uint8:
            raise ConfigError(f"image: found {values.dtype}, expected uint8 from 0 to 255, or numbers from 0 to 1")
        return values.to(self.model.device), single

    def _sequences(
        self,
        images: Tensor,
        order: str | Tensor | ArrayLike | None,
        places: Tensor | ArrayLike | None,
        T: int,
        repeat: int,
    ) -> Sequences:
        task, rows = self.run.task, torch.arange(len(images), device=images.device)
        if places is not None:
            if not isinstance(task, QueriedConfig) or order is not None:
                raise ConfigError(
                    f"places: expected with task queried alone, and without an order; the task is {task.kind}, the order {order!r}"
                )
            return QueriedSequences(images, self._places(places, len(images), task.patch_size).to(images.device))
        if order is None or isinstance(order, str):
            name = task.order if order is None else order
            if name not in task.ORDERS:
                raise ConfigError(f"order: found {name!r}, expected one of {', '.join(task.ORDERS)} (task {task.kind})")
            return build_task(self.run, in_memory(images)).held_out(rows, name, repeat, T)
        if not isinstance(task, DrawConfig):
            raise ConfigError(
                f"order: found numbers, expected one of {', '.join(task.ORDERS)}, or `places` (task queried)"
            )
        height, width = self.image_shape[1:]
        cells = _integers(order, "order", "cells, (T,) or (B, T)")
        cells = _of_each(cells, 1, len(images), "order")
        _within(cells, (height // task.patch_size) * (width // task.patch_size), "order", "cell")
        return sequences_along(images, task.patch_size, rows, cells.to(images.device))

    def _places(self, places: Tensor | ArrayLike, B: int, patch_size: int) -> Tensor:
        """(B, T) numbers of places, of rows and columns of pixels."""
        field = field_of(*self.image_shape[1:], patch_size)
        corners = _integers(places, "places", "(T, 2) or (B, T, 2)")
        if corners.shape[-1:] != (2,):
            raise ConfigError(
                f"places: found shape {tuple(corners.shape)}, expected (T, 2) or (B, T, 2): row and column, pixels"
            )
        corners = _of_each(corners, 2, B, "places")
        for name, values, n in zip(("row", "column"), corners.unbind(-1), field.shape, strict=True):
            _within(values, n, "places", name)
        return field.place(*corners.unbind(-1))


def _ascending(steps: int | Iterable[int]) -> list[int]:
    wanted = [int(t) for t in np.atleast_1d(np.asarray(steps if isinstance(steps, int) else list(steps)))]
    if not wanted or wanted != sorted(set(wanted)) or wanted[0] < 1:
        raise ConfigError(f"steps: found {wanted}, expected numbers from 1, ascending, each once")
    return wanted


def _integers(values: Tensor | ArrayLike, name: str, form: str) -> Tensor:
    found = values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool or not found.numel():
        raise ConfigError(f"{name}: found {found.dtype} of shape {tuple(found.shape)}, expected integers: {form}")
    return found.long()


def _of_each(values: Tensor, dims: int, B: int, name: str) -> Tensor:
    """The same for every image, where it was given once: (B, ...)."""
    if values.dim() == dims:
        return values.expand(B, *values.shape)
    if values.dim() != dims + 1 or len(values) != B:
        raise ConfigError(
            f"{name}: found shape {tuple(values.shape)} for {B} images, expected one sequence for all or {B}"
        )
    return values


def _within(values: Tensor, n: int, name: str, what: str) -> None:
    if wrong := values[(values < 0) | (values >= n)].tolist():
        raise ConfigError(f"{name}: found {what} {wrong[0]}, expected 0 to {n - 1}")

"""What is remembered of what, and how much the queries write: errors of single queries. Glossary: `lgmamba.tasks.queried.task`.

A model is read once (a length-adaptive one is told L0), and at each step asked for Q patches, as many as in training, in two ways:

    rank       at random places; value = the query's number, from 1. Queries see what earlier ones wrote
    distance   the same queries; value = pixels from the query's centre to that of the nearest patch read, rounded
    recall     at the places read last, newest first; value = how many steps ago, from 1: what of the last n is remembered

Each is asked once `sequential`, one after the other as in training, and once `independent`, each alone from the same state. The
difference is what the queries write.
"""

from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from lgmamba.model.runner import ends, read_pieces, told
from lgmamba.model.sequences import SequenceModel
from lgmamba.tasks.base import Details
from lgmamba.tasks.queried.model import QueriedMamba
from lgmamba.tasks.queried.places import Field, HeldOutPlaces
from lgmamba.tasks.queried.sequences import QueriedSequences

ASKED = 1 << 20
"""Number of the sequence of places that are asked for, beyond those of all sequences that are read."""
WAYS = ("sequential", "independent")


class AskedErrors(Details):
    """Sums of squared errors by (aspect, way of asking, step, value).

    Args:
        field: the places of an image.
        queries: Q.
    """

    name = "asked"

    def __init__(self, field: Field, queries: int):
        self.field, self.queries = field, queries
        self.sums: dict[tuple[str, str, int], np.ndarray] = {}

    @torch.no_grad()
    def add(
        self, model: SequenceModel, id_hash: Tensor, sequences: QueriedSequences, steps: list[int], chunk: int
    ) -> None:
        places = HeldOutPlaces("uniform", self.field, id_hash, ASKED, model.device).read(0, self.queries)
        length = told(model, len(sequences), model.L0)
        for piece in read_pieces(model, sequences, ends(steps, chunk), length):
            if piece.stop not in steps:
                continue
            read = sequences.places[:, : piece.stop]
            distances = nearest_read(self.field, read, places).round().long()
            recalled = read[:, -self.queries :].flip(1)
            for way in WAYS:
                errors = errors_at(model, piece.state, sequences, places, way)  # (B, Q)
                ranks = torch.arange(1, self.queries + 1, device=errors.device).expand_as(errors)
                self._count("rank", way, piece.stop, ranks, errors)
                self._count("distance", way, piece.stop, distances, errors)
                errors = errors_at(model, piece.state, sequences, recalled, way)
                ages = torch.arange(1, recalled.shape[1] + 1, device=errors.device).expand_as(errors)
                self._count("recall", way, piece.stop, ages, errors)

    def _count(self, aspect: str, way: str, step: int, values: Tensor, errors: Tensor) -> None:
        values, errors = values.flatten().cpu().numpy(), errors.flatten().double().cpu().numpy()
        largest = max(self.queries, round(np.hypot(self.field.height, self.field.width)))
        found = np.stack([np.bincount(values, w, minlength=largest + 1) for w in (errors, None)])
        self.sums[aspect, way, step] = self.sums.get((aspect, way, step), 0) + found

    def columns(self) -> dict[str, list[Any]]:
        """aspect, queries, step, value, mse (pixel value^2), count (queries)."""
        rows = []
        for (aspect, way, step), (sums, counts) in self.sums.items():
            rows += [
                (aspect, way, step, int(value), float(sums[value] / counts[value]), int(counts[value]))
                for value in np.flatnonzero(counts)
            ]
        names = ("aspect", "queries", "step", "value", "mse", "count")
        return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def errors_at(model: QueriedMamba, state: Any, sequences: QueriedSequences, places: Tensor, way: str) -> Tensor:
    """Mean squared error of each patch asked for at places (B, Q): (B, Q)."""
    true = model.cut(sequences.images, places)
    return (model.ask_at(state, places, way) - true).square().mean(2)


def nearest_read(field: Field, read: Tensor, places: Tensor) -> Tensor:
    """Pixels between the centres of the patches at places (B, Q) and of the nearest of those read (B, t): (B, Q) float64."""
    found = np.empty(places.shape)
    for b, (past, asked) in enumerate(zip(read.cpu().numpy(), places.cpu().numpy(), strict=True)):
        unread = np.ones(len(field), dtype=bool)
        unread[past] = False
        found[b] = distance_transform_edt(unread.reshape(field.shape)).ravel()[asked]
    return torch.from_numpy(found)

"""What is remembered of what, and how much the queries write: errors of single queries. Glossary: `lgmamba.tasks.queried.task`.

A model is read once (a length-adaptive one is told L0), and at each step asked for Q patches, as many as in training, in two ways:

    rank       at random places; value = the query's number, from 1. Queries see what earlier ones wrote
    distance   the same queries; value = pixels from the query's centre to that of the nearest patch read, rounded
    recall     at the places read last, newest first; value = how many steps ago, from 1: what of the last n is remembered

Each is asked once `sequential`, one after the other as in training, and once `independent`, each alone from the same state. The
difference is what the queries write. A model that is told a length is also told wrong ones, at steps up to L0, and asked in a row:

    told         at random places; value = the length told, of `told_lengths`: a dose-response curve
    told_other   the same, each told a length drawn from the law of its training; value = 0
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgmamba.config.lengths import LengthConfig
from lgmamba.model.runner import ends, read_pieces, target_lengths
from lgmamba.model.sequences import SequenceModel
from lgmamba.tasks.base import Details
from lgmamba.tasks.lengths import LengthDistribution
from lgmamba.tasks.queried.model import QueriedMamba
from lgmamba.tasks.queried.places import Field, HeldOutPlaces
from lgmamba.tasks.queried.sequences import QueriedSequences
from lgmamba.tasks.seeds import of_each, seed_of_repeat

ASKED = 1 << 20
"""Number of the sequence of places that are asked for, beyond those of all sequences that are read."""
WAYS = ("sequential", "independent")


class AskedErrors(Details):
    """Sums of squared errors by (aspect, way of asking, step, value).

    Args:
        field: the places of an image.
        queries: Q.
        lengths: law of training lengths.
    """

    name = "asked"

    def __init__(self, field: Field, queries: int, lengths: LengthConfig):
        self.field, self.queries, self.lengths = field, queries, LengthDistribution(lengths)
        self.sums: dict[tuple[str, str, int], np.ndarray] = {}

    @torch.no_grad()
    def add(
        self, model: SequenceModel, id_hash: Tensor, sequences: QueriedSequences, steps: list[int], chunk: int
    ) -> None:
        places = HeldOutPlaces("uniform", self.field, id_hash, ASKED, model.device).read(0, self.queries)
        length = target_lengths(model, len(sequences), model.L0)
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

        if model.uses_target_length:
            self._tell(model, id_hash, sequences, [T for T in steps if T <= model.L0], chunk, places)

    def _tell(
        self,
        model: QueriedMamba,
        id_hash: Tensor,
        sequences: QueriedSequences,
        steps: list[int],
        chunk: int,
        places: Tensor,
    ) -> None:
        """Read again, told other lengths than the sequences' own."""
        drawn = of_each(id_hash.cpu(), lambda g: self.lengths.sample(1, g)[0], lambda h: seed_of_repeat(h, ASKED))
        others = drawn.to(model.device)
        for T in steps:
            tellings = [(length, torch.full_like(others, length)) for length in told_lengths(T, model.L0)]
            for value, length in [*tellings, (0, others)]:
                *_, piece = read_pieces(model, sequences, ends([T], chunk), length)
                errors = errors_at(model, piece.state, sequences, places, "sequential")
                values = torch.full(errors.shape, value, device=errors.device)
                self._count("told" if value else "told_other", "sequential", T, values, errors)

    def _count(self, aspect: str, way: str, step: int, values: Tensor, errors: Tensor) -> None:
        values, errors = values.flatten().cpu().numpy(), errors.flatten().double().cpu().numpy()
        largest = max(self.queries, round(np.hypot(self.field.height, self.field.width)), 4 * self.lengths.max)
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


def told_lengths(T: int, L0: int) -> list[int]:
    """Lengths that a model is told of a sequence of T steps: its own, a quarter, half, twice and four times that; 1 and L0."""
    return sorted({max(1, T // 4), max(1, T // 2), T, 2 * T, 4 * T, 1, L0})


def errors_at(model: QueriedMamba, state: Any, sequences: QueriedSequences, places: Tensor, way: str) -> Tensor:
    """Mean squared error of each patch asked for at places (B, Q): (B, Q)."""
    true = model.cut(sequences.images, places)
    return (model.ask_at(state, places, way) - true).square().mean(2)


def nearest_read(field: Field, read: Tensor, places: Tensor) -> Tensor:
    """Pixels between the centres of the patches at places (B, Q) and of the nearest of those read (B, t): (B, Q) float64."""
    from scipy.ndimage import distance_transform_edt

    found = np.empty(places.shape)
    for b, (past, asked) in enumerate(zip(read.cpu().numpy(), places.cpu().numpy(), strict=True)):
        unread = np.ones(len(field), dtype=bool)
        unread[past] = False
        found[b] = distance_transform_edt(unread.reshape(field.shape)).ravel()[asked]
    return torch.from_numpy(found)

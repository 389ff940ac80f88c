"""The task `next_item`: a user's history is read item by item, and at every step the next item is told among all.

A prediction is a score of every item, and judged by the rank of the item that came: HR@10, whether it is among the first ten, and NDCG@10.
Items are told by their embeddings (tied), as recommenders do. A user's taste is known better with a longer history, the present genre from
the newest items: what is read beyond L0 can help a little, and `truncate`, the newest L0 items alone, is the control to beat.

No recorded histories come with this project: the law has tastes, runs of a genre and popular items, and nothing is claimed of any films.

Glossary, with that of `lgmamba.tasks.base`: G genres; item g items + k is the k-th of genre g. A sample, an id alone, is a user.
Reference: measures as of arXiv:2408.11451 (SIGMA), whose data and model are not here.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.tasks.base import Scores
from lgmamba.tasks.draws import uniform_of_each
from lgmamba.tasks.next_item.batch import NextItemSampler
from lgmamba.tasks.next_item.config import NextItemConfig
from lgmamba.tasks.next_item.histories import PER_ITEM, Histories, law, popularity
from lgmamba.tasks.symbols import SymbolModel, SymbolTask

NAMED = 10
"""Items that a model names."""


class NextItemModel(SymbolModel):
    """Embedding of each item -> stack -> a score of every item, the product with its embedding, (..., items)."""

    def build_read_out(self) -> None:
        self.bias = torch.nn.Parameter(torch.zeros(self.answers))

    def predict(self, outputs: Tensor) -> Tensor:
        scores = F.linear(outputs, self.embed_symbol.weight.to(outputs.dtype), self.bias.to(outputs.dtype))
        return scores.to(torch.promote_types(scores.dtype, torch.float32))


class NextItemTask(SymbolTask):
    """See the module."""

    config: NextItemConfig

    @classmethod
    def build_model(cls, config: Any, model: ModelConfig, image_shape: tuple[int, int, int]) -> NextItemModel:
        n = config.genres * config.items
        return NextItemModel(model, config.lengths.max, n, n)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> NextItemSampler:
        return NextItemSampler(self.config, rows, train, seed, full_length)

    def sequences(self, batch: Any) -> Histories:
        return Histories(batch.item[:, :-1], batch.item[:, 1:], batch.genre, batch.taste)

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> Histories:
        sizes = [self.config.genres, PER_ITEM * (steps + 1)]
        tastes, choices = uniform_of_each(self.dataset.id_hash[rows], repeat, sum(sizes)).split(sizes, dim=1)
        return Histories.of(self.config, tastes, choices).to(self.dataset.images.device)

    def targets(self, sequences: Histories, steps: Tensor) -> Tensor:
        return sequences.following.gather(1, steps.expand(len(sequences), -1) - 1)

    @property
    def chance(self) -> float:
        return 1 / (self.config.genres * self.config.items)

    def errors(self, prediction: Tensor, sequences: Any, steps: Tensor) -> dict[str, Tensor]:
        """miss_10 and ndcg_loss_10, (B, S); items of equal scores are ranked before the right one."""
        own = prediction.gather(-1, self.targets(sequences, steps)[..., None])
        rank = (prediction >= own).sum(-1)  # from 1
        named = rank <= NAMED
        return {"miss_10": (~named).float(), "ndcg_loss_10": 1 - named / (rank + 1.0).log2()}

    def baselines(self, sequences: Any, steps: Tensor, ages: Tensor | None) -> dict[str, Scores]:
        """law: taste and genre are known; popularity: the items that all users together choose most."""
        genre = sequences.genre.gather(1, steps.expand(len(sequences), -1) - 1)
        known = law(self.config, genre, sequences.taste)
        every = popularity(self.config, known.device).repeat(self.config.genres)
        # Of items that are equally popular, those of the first genres are named.
        every = every - 1e-9 * torch.arange(len(every), device=every.device)
        named = {"law": known, "popularity": every.expand_as(known)}
        return {name: Scores(self.errors(scores, sequences, steps)) for name, scores in named.items()}

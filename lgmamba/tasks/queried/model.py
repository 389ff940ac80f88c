"""QueriedMamba: reads patches with their positions; draws the patch at any position that a query token asks for.

Glossary: `lgmamba.model`, `lgmamba.tasks.queried.task`.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import gather_steps
from lgmamba.model.stack import StackState
from lgmamba.tasks.class_head import joined
from lgmamba.tasks.images import ImageModel
from lgmamba.tasks.queried.config import AppendPosition, QueriedConfig
from lgmamba.tasks.queried.layout import DELIMITER, PATCH
from lgmamba.tasks.queried.patches import Canvas, cut
from lgmamba.tasks.queried.places import check_places, field_of, grid_places
from lgmamba.tasks.queried.sequences import QueriedSequences

TOKEN_STD = 0.02
"""Standard deviation of the learned delimiter and query at initialisation, as in the paper's code."""

ALONE = 4096
"""Queries that are asked independently in one pass, at most."""
COPIES = 1 << 30
"""Bytes that the copies of the state that they start from may take; attention's state of long sequences is large, and reading it takes
some fifteen times as much."""


class QueriedMamba(ImageModel):
    """Tokens: linear(K -> d), linear(d -> d - 2), then the position's two numbers; or linear(d -> d) plus a code of it.

    Args:
        config: sizes, see `ModelConfig`.
        task: patch side, position, number of training queries, and how pictures are asked for.
        shape: (C, H, W) of the images, pixels.
    """

    asks: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, task: QueriedConfig, shape: tuple[int, int, int]):
        self.task, self.shape = task, tuple(shape)
        self.field = field_of(*shape[1:], task.patch_size, task.lengths.max)
        self.canvas = Canvas(self.field, grid_places(self.field, task.ask.stride), shape[0])
        self.appends = isinstance(task.position, AppendPosition)
        super().__init__(config, task.lengths.max)

    def build_embedding(self) -> None:
        d = self.config.d_model
        content = d - 2 if self.appends else d
        self.embed_patch = nn.Linear(self.shape[0] * self.task.patch_size**2, d)
        self.embed_content = nn.Linear(d, content)
        self.delimiter = nn.Parameter(TOKEN_STD * torch.randn(d))
        self.query = nn.Parameter(TOKEN_STD * torch.randn(content))

    def build_decoder(self, width: int) -> nn.Module:
        return nn.Linear(width, self.shape[0] * self.task.patch_size**2)

    def tokens(self, sequences: QueriedSequences, start: int, stop: int) -> Tensor:
        places = sequences.places[:, start:stop]
        return self.with_position(self.content(self.cut(sequences.images, places)), places)

    def cut(self, images: Tensor, places: Tensor) -> Tensor:
        """Patches (B, L, K) in [0, 1], in the model's precision."""
        patches = cut(images, self.field, places).to(self.dtype)
        return patches if images.is_floating_point() else patches / 255

    def content(self, patches: Tensor) -> Tensor:
        """What a patch (..., K) in [0, 1] says, without its position; the residual stream keeps full precision under autocast."""
        return self.embed_content(self.embed_patch(2 * patches - 1)).to(self.dtype)

    def with_position(self, content: Tensor, places: Tensor) -> Tensor:
        """Tokens (B, L, d) of contents at places (B, L)."""
        x, y = (v.to(self.dtype) for v in self.field.centres(places))
        position = self.task.position
        if self.appends:
            return torch.cat([content, torch.stack([x, y], dim=-1) / position.scale], dim=-1)
        quarter = self.config.d_model // 4
        octaves = torch.arange(quarter, device=places.device, dtype=self.dtype) / quarter
        angles = torch.stack([x, y], dim=-1)[..., None] * position.temperature**-octaves  # (B, L, 2, d / 4)
        return content + torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)

    def slot_tokens(self, patches: Tensor, places: Tensor, kinds: Tensor) -> Tensor:
        """Tokens (B, S, d) of the slots of a training batch, see `lgmamba.tasks.queried.layout`."""
        kinds = kinds[..., None]
        content = torch.where(kinds == PATCH, self.content(patches), self.query)
        return torch.where(kinds == DELIMITER, self.delimiter, self.with_position(content, places))

    def slot_outputs(
        self, tokens: Tensor, lengths: Tensor, state: StackState | None = None, target_length: Tensor | None = None
    ) -> Tensor:
        """Outputs (B, S, d) at the slots of a training batch, whose tokens are given; only those at queries are of any use.

        Args:
            lengths: (B,) T of each sequence.
            state, target_length: as of `encode`.
        """
        if not self.config.mixer.ANSWERS:
            return self.encode(tokens, state, target_length, want_state=False)[0]
        Q = self.task.queries
        _, end = self.encode(tokens[:, : tokens.shape[1] - Q], state, target_length)
        slots = lengths[:, None] + torch.arange(1, Q + 1, device=lengths.device)  # of the queries
        # Steps are counted from 1: the delimiter is number T + 1, and what follows is of no sequence, or a query.
        answers = self.answer(gather_steps(tokens, slots), end, last=lengths + 1)
        return torch.zeros_like(tokens).scatter(1, slots[..., None].expand_as(answers), answers.to(tokens.dtype))

    def decode(self, z: Tensor) -> Tensor:
        """Latents (..., m) at queries -> patches (..., K) in [0, 1], float32 (float64 in a float64 model)."""
        patches = self.decoder(z)
        return patches.to(torch.promote_types(patches.dtype, torch.float32)).sigmoid()

    def ask(
        self, state: StackState, sequences: QueriedSequences, t: int, target_length: Tensor | None = None
    ) -> Tensor:
        """The whole picture after step t, (B, C, H, W): patches that cover it, their mean where they overlap.

        With a class head joined with its scores, the mean over the same queries.
        """
        z = self.picture_latents(state, len(sequences))
        picture = self.canvas.picture(self.decode(z))
        return picture if self.class_head is None else joined(picture, self.class_head(z).mean(1))

    def picture_latents(self, state: StackState, batch: int) -> Tensor:
        """Latents of queries for all places of the picture, (B, Q, m), as `ask` asks for them."""
        places = self.canvas.places.to(self.device)
        # A fixed random order, since training asked in random ones.
        order = torch.randperm(len(places), generator=torch.Generator().manual_seed(0)).to(self.device)
        return self.latents_at(state, places[order].expand(batch, -1), self.task.ask.queries)[:, order.argsort()]

    def for_read_out(self, output: Tensor, state: StackState) -> Tensor:
        return self.picture_latents(state, len(output)).flatten(1)

    def ask_at(self, state: StackState, places: Tensor, queries: str = "sequential") -> Tensor:
        """Patches (B, Q, K) in [0, 1] at places; arguments as of `latents_at`."""
        return self.decode(self.latents_at(state, places, queries))

    def latents_at(self, state: StackState, places: Tensor, queries: str) -> Tensor:
        """Latents of queries for places, from one state, which is not changed.

        Args:
            state: of B sequences.
            places: (B, Q) int64.
            queries: "sequential": one after the other as in training (of a mixer that ANSWERS: together, as there), and like there
                at most `task.queries` in a row before starting again from the state; "independent": each alone.
        Returns:
            (B, Q, m).
        Raises:
            ConfigError: a place outside the image.
        """
        check_places(places, self.field)
        B = len(places)
        _, state = self.encode(self.delimiter.expand(B, 1, -1), state)
        tokens = self.with_position(self.query.expand(B, places.shape[1], -1), places)
        if queries == "sequential":
            groups = tokens.split(self.task.queries, dim=1)
            return self.latents(torch.cat([self._asked_together(group, state) for group in groups], dim=1))
        if self.config.mixer.ANSWERS:
            return self.latents(self.answer(tokens, state, alone=True))
        outputs, size = [], sum(v.nbytes for v in state.tensors())
        for group in tokens.split(max(1, min(ALONE // B, COPIES // size)), dim=1):
            copies = state.with_tensors([v.repeat_interleave(group.shape[1], dim=0) for v in state.tensors()])
            alone, _ = self.encode(group.flatten(0, 1)[:, None], copies, want_state=False)
            outputs.append(alone.unflatten(0, group.shape[:2])[:, :, 0])
        return self.latents(torch.cat(outputs, dim=1))

    def _asked_together(self, tokens: Tensor, state: StackState) -> Tensor:
        if self.config.mixer.ANSWERS:
            return self.answer(tokens, state)
        return self.encode(tokens, state, want_state=False)[0]

    def forward(
        self,
        sequences: QueriedSequences,
        steps: Tensor,
        target_length: Tensor | None = None,
        state: StackState | None = None,
    ) -> Tensor:
        """Pictures at steps (B, S) of whole sequences: (B, S, C, H, W). Training asks at places of its own (`QueriedTask.loss`)."""
        found = []
        for b in range(len(sequences)):
            own = slice(b, b + 1)
            own_length = None if target_length is None else target_length[own]
            start = None if state is None else state.with_tensors([v[own] for v in state.tensors()])
            pictures = []
            for t in steps[b].tolist():
                _, end = self.encode(self.tokens(sequences[own], 0, t), start, own_length)
                pictures.append(self.ask(end, sequences[own], t, own_length))
            found.append(torch.cat(pictures))
        return torch.stack(found)

"""PatchMamba: reads patches one by one, and draws the whole image from its output at any step.

Glossary: `lgmamba.model`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.model.conditioning import BlockCondition, LengthConditioning
from lgmamba.model.decoders import build_decoder
from lgmamba.model.mixer import MambaMixer, SelectiveScanState
from lgmamba.model.plan import Plan, gather_steps
from lgmamba.task.patches import grid_shape

MIXERS = {"mamba": MambaMixer}
"""`model.mixer.kind` -> class; another mixer takes and returns what `MambaMixer.forward` does."""

MOVE_FREQUENCIES = 8
"""Octaves of the sine code of a move, per axis."""


@dataclass(frozen=True)
class StackState:
    """Where the stack is in a sequence: enough to go on with the next piece.

    Attributes:
        t: steps read so far.
        layers: one carry per block.
        cell: (B,) the cell read last, for the code of moves.
    """

    t: int
    layers: tuple[SelectiveScanState, ...]
    cell: Tensor


class Block(nn.Module):
    """Pre-norm residual block: x + mixer(norm(x)), conditioned where a length is told."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.norm = nn.RMSNorm(config.d_model, eps=1e-5)
        self.mixer = MIXERS[config.mixer.kind](config, layer)

    def forward(
        self,
        x: Tensor,
        state: SelectiveScanState | None,
        t0: int,
        told: Tensor | None,
        condition: BlockCondition,
        plan: Plan | None,
        want_state: bool,
    ) -> tuple[Tensor, SelectiveScanState | None, Tensor | None]:
        """(B, L, d) -> (B, K, d), the mixer's carry, and the positions kept (None: all, K = L)."""
        u = self.norm(x)
        if condition.scale is not None:
            u = u * (1 + condition.scale) + condition.shift
        out, state, keep = self.mixer(u, state, t0, condition.dt_offset, condition.dt_factor, told, plan, want_state)
        if keep is not None:
            x = gather_steps(x, keep)
        if condition.gate is not None:
            gate = condition.gate
            out = out * (1 + (gate if keep is None or gate.shape[1] == 1 else gather_steps(gate, keep)))
        return x + out, state, keep


class PatchMamba(nn.Module):
    """Patch tokens -> stack of blocks -> decoder.

    Args:
        config: sizes and forms, see `ModelConfig`.
        shape: (C, H, W_img) of the images, pixels.
        patch_size: patch side, pixels.
        L0: longest training length, patches; a length-adaptive model measures told lengths by it.
    """

    def __init__(self, config: ModelConfig, shape: tuple[int, int, int], patch_size: int, L0: int):
        super().__init__()
        self.config, self.shape, self.patch_size, self.L0 = config, tuple(shape), patch_size, L0
        self.grid = grid_shape(shape[1], shape[2], patch_size)
        d = config.d_model
        self.embed_patch = nn.Linear(shape[0] * patch_size**2, d)
        if config.position == "absolute":
            self.embed_cell = nn.Embedding(self.grid[0] * self.grid[1], d)
        else:
            self.embed_move = nn.Linear(4 * MOVE_FREQUENCIES, d, bias=False)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.norm_out = nn.RMSNorm(d, eps=1e-5)
        self.decoder = build_decoder(config.decoder, d, self.shape, patch_size)
        with torch.no_grad():  # as mamba_ssm's `_init_weights`: the residual stream keeps its scale with depth
            for block in self.blocks:
                block.mixer.out_proj.weight /= config.n_layer**0.5
        self.conditioning = None
        if config.adaptive is not None:  # built last, so that a plain model with the same seed starts equal
            self.conditioning = LengthConditioning(config.adaptive, config.n_layer, d, config.d_inner, L0)

    def forward(
        self, patches: Tensor, cells: Tensor, steps: Tensor, told: Tensor | None = None, state: StackState | None = None
    ) -> Tensor:
        """Reconstructions at some steps of whole sequences.

        The stack is causal, so sequences of different lengths may share a batch: run them to the longest and read
        sequence b at steps up to its own length.

        Args:
            patches: (B, L, K) pixel values in [0, 1].
            cells: (B, L) int64 grid cell of each patch.
            steps: (B, S) int64 steps at which to decode, from 1.
            told: (B,) length told to a length-adaptive model; ignored by a plain one.
            state: where the sequences stand before the first patch, or None at their start.
        Returns:
            (B, S, C, H, W_img) reconstructions, unclipped.
        """
        outputs, _ = self.encode(patches, cells, state, told, want_state=False)
        return self.decode(gather_steps(outputs, steps - 1))

    def encode(
        self,
        patches: Tensor,
        cells: Tensor,
        state: StackState | None = None,
        told: Tensor | None = None,
        plan: Plan | None = None,
        want_state: bool = True,
    ) -> tuple[Tensor, StackState | None]:
        """Read one piece of a sequence.

        Args:
            patches, cells: (B, L, K) and (B, L), the next L steps.
            state: where the sequence stands, or None at its start.
            told: (B,) length at which the output will be read; required by a length-adaptive model.
            plan: changes what enters each scan, see `lgmamba.model.plan`.
            want_state: whether the state after the piece is needed.
        Returns:
            outputs (B, L, d) after the final norm (fewer rows if the plan drops steps), and the state after the piece
            (None if it is not wanted).
        """
        t0 = 0 if state is None else state.t
        x = self._tokens(patches, cells, None if state is None else state.cell)
        code, dt_factor = self._told(told, t0, patches.shape[1], x.device)
        carries = []
        for layer, block in enumerate(self.blocks):
            condition = BlockCondition() if code is None else self.conditioning.block(layer, code, dt_factor)
            carry = None if state is None else state.layers[layer]
            x, carry, keep = block(x, carry, t0, told, condition, plan, want_state)
            carries.append(carry)
            if keep is not None and code is not None:
                code = self.conditioning.keep(code, keep)
                dt_factor = None if dt_factor is None else gather_steps(dt_factor, keep)
        end = StackState(t0 + patches.shape[1], tuple(carries), cells[:, -1]) if want_state else None
        outputs = self.norm_out(x)
        return (outputs if code is None else self.conditioning.readout(outputs, code)), end

    def step(
        self,
        patch: Tensor,
        cell: Tensor,
        state: StackState | None = None,
        told: Tensor | None = None,
        plan: Plan | None = None,
    ) -> tuple[Tensor, StackState]:
        """Read one patch: (B, K), (B,) -> output (B, d) and the new state. A piece of one step, so it cannot disagree with `encode`."""
        outputs, state = self.encode(patch[:, None], cell[:, None], state, told, plan)
        return outputs[:, 0], state

    def decode(self, outputs: Tensor) -> Tensor:
        """Outputs (..., d) of `encode` -> images (..., C, H, W_img), float32 (float64 in a float64 model)."""
        images = self.decoder(outputs)
        return images.to(torch.promote_types(images.dtype, torch.float32))

    def _tokens(self, patches: Tensor, cells: Tensor, previous: Tensor | None) -> Tensor:
        dtype = self.embed_patch.weight.dtype
        x = self.embed_patch(2 * patches - 1).to(dtype)  # the residual stream keeps full precision under autocast
        if self.config.position == "absolute":
            return x + self.embed_cell(cells)
        previous = cells[:, :1] if previous is None else previous[:, None]  # the first move is zero
        before = torch.cat([previous, cells[:, :-1]], dim=1)
        return x + self.embed_move(self._move_code(cells, before, dtype))

    def _move_code(self, cells: Tensor, before: Tensor, dtype: torch.dtype) -> Tensor:
        """Sines and cosines of the move in rows and columns, wavelengths 2, 4, 8, ... cells: (B, L) -> (B, L, 4 F)."""
        gw = self.grid[1]
        rows, cols = cells // gw - before // gw, cells % gw - before % gw
        octaves = torch.pi / 2.0 ** torch.arange(MOVE_FREQUENCIES, device=cells.device, dtype=dtype)
        angles = torch.cat([rows[..., None] * octaves, cols[..., None] * octaves], dim=-1)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def _told(self, told: Tensor | None, t0: int, L: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """Code of lengths and steps, and factor of the step sizes; None where there is none."""
        if self.conditioning is None:
            return None, None
        if told is None:
            raise ValueError(
                "this model is length-adaptive: pass told, the length (B,) at which its output will be read"
            )
        t = torch.arange(t0 + 1, t0 + L + 1, device=device)
        return self.conditioning(told, t), self.conditioning.dt_factor(told, t)

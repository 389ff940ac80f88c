"""The stack: blocks around a sequence mixer, the final norm, and what a length-adaptive model is told. It knows no task.

Glossary: `lgmamba.model`.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lgmamba.config.run import LengthTokenConfig, ModelConfig
from lgmamba.mixers.contract import Answering, Hook, State, gather_steps
from lgmamba.mixers.norm import RMSNorm
from lgmamba.mixers.registry import build_mixer
from lgmamba.model.conditioning import BlockCondition, LengthConditioning
from lgmamba.model.length_token import LengthToken


@dataclass(frozen=True)
class StackState:
    """Where the stack is in a sequence: enough to go on with the next piece.

    Attributes:
        t: steps read so far.
        layers: one for each block.
    """

    t: int
    layers: tuple[State, ...]

    def tensors(self) -> list[Tensor]:
        """All tensors, layer by layer; batch is axis 0 of each."""
        return [v for layer in self.layers for v in layer.tensors]

    def with_tensors(self, tensors: list[Tensor], t: int | None = None) -> "StackState":
        """The same with other tensors, in the order of `tensors`, and perhaps at another step."""
        left = iter(tensors)
        layers = tuple(layer.with_tensors(tuple(next(left) for _ in layer.tensors)) for layer in self.layers)
        return StackState(self.t if t is None else t, layers)


class Block(nn.Module):
    """Pre-norm residual block: x + mixer(norm(x)), conditioned where a length is told."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.norm = RMSNorm(config.d_model, eps=1e-5)
        self.mixer = build_mixer(config, layer)

    def forward(
        self,
        x: Tensor,
        state: State | None,
        t0: int,
        target_length: Tensor | None,
        condition: BlockCondition,
        hook: Hook | None,
        want_state: bool,
    ) -> tuple[Tensor, State | None, Tensor | None]:
        """(B, L, d) -> (B, K, d), the mixer's state, and the positions kept (None: all, K = L)."""
        u = self.norm(x)
        if condition.scale is not None:
            u = u * (1 + condition.scale) + condition.shift
        out, state, keep = self.mixer(
            u, state, t0, condition.dt_offset, condition.dt_factor, target_length, hook, want_state
        )
        if keep is not None:
            x = gather_steps(x, keep)
        if condition.gate is not None:
            gate = condition.gate
            out = out * (1 + (gate if keep is None or gate.shape[1] == 1 else gather_steps(gate, keep)))
        return x + out, state, keep

    def answer(self, x: Tensor, state: State, last: Tensor | None, alone: bool) -> Tensor:
        """(B, Q, d) -> (B, Q, d), of a mixer that ANSWERS; arguments as of `Stack.answer`."""
        return x + cast(Answering, self.mixer).answer(self.norm(x), state, last, alone)


class Stack(nn.Module):
    """Tokens (B, L, d) -> outputs (B, L, d).

    Weights are drawn in one order: what embeds, blocks, what reads out, and the conditioning last, so that a plain model with
    the same seed starts equal. A model of a task adds its ends through `build_embedding` and `build_read_out`.

    Args:
        config: sizes and forms, see `ModelConfig`.
        L0: longest training length, steps; a length-adaptive model measures the lengths that it is told by it.
    """

    def __init__(self, config: ModelConfig, L0: int):
        super().__init__()
        self.config, self.L0 = config, L0
        self.build_embedding()
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.norm_out = RMSNorm(config.d_model, eps=1e-5)
        self.build_read_out()
        self.conditioning, self.length_token = None, None
        if isinstance(config.adaptive, LengthTokenConfig):
            self.length_token = LengthToken(config.adaptive, config.d_model, L0)
        elif config.adaptive is not None:
            self.conditioning = LengthConditioning(config.adaptive, config.n_layer, config.d_model, config.channels, L0)
        if config.init_gamma is not None:
            self._draw_matrices(config.init_gamma)

    @torch.no_grad()
    def _draw_matrices(self, gamma: float) -> None:
        """Every linear layer's matrix, and every embedding's, of n inputs: normal, standard deviation n^-gamma (arXiv:2509.17514, section 3)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(std=module.in_features**-gamma)
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(std=module.num_embeddings**-gamma)

    def build_embedding(self) -> None:
        """Modules that make tokens; none in a bare stack."""

    def build_read_out(self) -> None:
        """Modules that make predictions; none in a bare stack."""

    @property
    def uses_target_length(self) -> bool:
        """Whether what is read depends on the length that is told; else one pass is every prefix."""
        return self.config.adaptive is not None and self.config.adaptive.told == "own"

    @property
    def draws_target_lengths(self) -> bool:
        """Whether it is a control that in training is told the lengths of other sequences."""
        return self.config.adaptive is not None and self.config.adaptive.told == "shuffled"

    def told(self, target_length: Tensor | None, batch: int) -> Tensor:
        """What a length-adaptive model is told, (B,): the length that is passed, or what it is told whatever that is.

        Where it is one number in memory for all sequences (`Tensor.expand`), what follows from it is computed once for them all.

        Raises:
            ValueError: it is told a length and none is passed.
        """
        adaptive = self.config.adaptive
        assert adaptive is not None  # a plain model is not asked
        if not (self.uses_target_length or (self.training and self.draws_target_lengths)):
            known = self.L0 if adaptive.constant is None else adaptive.constant
            return torch.full((1,), known, device=self.device).expand(batch)
        if target_length is None:
            raise ValueError(
                "this model is length-adaptive: pass target_length, the length (B,) at which its output will be read"
            )
        return target_length

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm_out.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of the residual stream, which keeps full precision under autocast."""
        return self.norm_out.weight.dtype

    def encode(
        self,
        tokens: Tensor,
        state: StackState | None = None,
        target_length: Tensor | None = None,
        hook: Hook | None = None,
        want_state: bool = True,
    ) -> tuple[Tensor, StackState | None]:
        """Read one piece of a sequence.

        Args:
            tokens: (B, L, d), of the next L steps.
            state: where the sequence stands, or None at its start.
            target_length: (B,) length at which the output will be read; required by a length-adaptive model.
            hook: changes what enters each scan, see `lgmamba.mixers.contract`.
            want_state: whether the state after the piece is needed.
        Returns:
            outputs (B, L, d) after the final norm (fewer rows if the hook drops steps), and the state after the piece
            (None if it is not wanted).
        """
        if state is None and self.length_token is not None:
            return self._encode_after_length(tokens, target_length, hook, want_state)
        return self._encode(tokens, state, 0 if state is None else state.t, target_length, hook, want_state)

    def _encode_after_length(
        self, tokens: Tensor, target_length: Tensor | None, hook: Hook | None, want_state: bool
    ) -> tuple[Tensor, StackState | None]:
        """The first piece of a sequence, after its length token, which is no step and which no hook sees."""
        assert self.length_token is not None
        first = self.length_token(self.told(target_length, len(tokens)))
        if hook is None:
            outputs, end = self._encode(torch.cat([first, tokens], dim=1), None, -1, target_length, None, want_state)
            return outputs[:, 1:], end
        _, state = self._encode(first, None, -1, target_length, None, True)
        return self._encode(tokens, state, 0, target_length, hook, want_state)

    def _encode(
        self,
        tokens: Tensor,
        state: StackState | None,
        t0: int,
        target_length: Tensor | None,
        hook: Hook | None,
        want_state: bool,
    ) -> tuple[Tensor, StackState | None]:
        """`encode` after `t0` steps."""
        x = tokens
        code, dt_factor = self._code(tokens, target_length, t0)
        layers = []
        for layer, block in enumerate(self.blocks):
            condition = (
                BlockCondition()
                if code is None or self.conditioning is None
                else self.conditioning.block(layer, code, dt_factor)
            )
            before = None if state is None else state.layers[layer]
            x, after, keep = block(x, before, t0, target_length, condition, hook, want_state)
            layers.append(after)
            if keep is not None and code is not None and self.conditioning is not None:
                code = self.conditioning.keep(code, keep)
                dt_factor = None if dt_factor is None else gather_steps(dt_factor, keep)
        end = StackState(t0 + tokens.shape[1], tuple(layers)) if want_state else None
        outputs = self.norm_out(x)
        return (outputs if code is None or self.conditioning is None else self.conditioning.readout(outputs, code)), end

    def answer(self, tokens: Tensor, state: StackState, last: Tensor | None = None, alone: bool = False) -> Tensor:
        """Outputs at queries, with a mixer that ANSWERS; the state is not changed.

        Args:
            tokens: (B, Q, d) of the queries.
            state: where the sequences stand that are asked.
            last: (B,) number of the last step that is looked at of each sequence; None: all that were read.
            alone: whether each query is answered as if it were the only one.
        Returns:
            (B, Q, d) after the final norm.
        """
        for block, layer in zip(self.blocks, state.layers, strict=True):
            tokens = cast(Block, block).answer(tokens, layer, last, alone)
        return self.norm_out(tokens)

    def start(self, batch: int) -> StackState:
        """The state before the first step, which `encode` takes for None: zeros, in the types that a pass leaves."""
        return StackState(0, tuple(cast(Block, block).mixer.start(batch) for block in self.blocks))

    def _code(self, tokens: Tensor, target_length: Tensor | None, t0: int) -> tuple[Tensor | None, Tensor | None]:
        """Code of lengths and steps, with one row for all sequences told the same, and factor of the step sizes; None where there is none."""
        if self.conditioning is None:
            return None, None
        batch = len(tokens)
        told = self.told(target_length, batch)
        if told.stride() == (0,) and len(told) == batch:
            told = told[:1]
        t = torch.arange(t0 + 1, t0 + tokens.shape[1] + 1, device=tokens.device)
        factor = self.conditioning.dt_factor(told, t)
        return self.conditioning(told, t), None if factor is None else factor.expand(batch, -1, -1)

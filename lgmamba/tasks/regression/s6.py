"""One bare S6 layer: what the theory of in-context regression is about. Glossary: `lgmamba.tasks.regression.task`.

The token (x, y) itself is the scan's input u, d + 1 channels; A = -1 and the step size are fixed, B = W_B u + b_B, C = W_C u + b_C,
and the answer is the last channel of the output: no gate, no skip, no norm, no convolution.
Reference: arXiv:2509.23779, section 3.
"""

import math

import torch
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import Hook, State, run
from lgmamba.mixers.mamba.mixer import MambaCall
from lgmamba.model.stack import StackState
from lgmamba.scan import selective_scan
from lgmamba.tasks.regression.model import Asked


class BareS6(Asked):
    """See the module. It offers a hook what a layer of the stack does, except for dropped steps.

    Args:
        config: its `mixer.d_state` is N, its `scan_backend` is used.
        dim: d.
        L0: longest training length, steps; the step size is ln 2 / L0, so that half of a write is left after L0 steps.
    """

    def __init__(self, config: ModelConfig, dim: int, L0: int):
        nn.Module.__init__(self)  # a stack's parts are not wanted
        self.config, self.dim, self.L0 = config, dim, L0
        self.conditioning = self.length_token = None  # nothing is told
        self.step_size = math.log(2) / L0
        self.write = nn.Linear(dim + 1, config.mixer.d_state)
        self.read = nn.Linear(dim + 1, config.mixer.d_state)

    @property
    def device(self) -> torch.device:
        return self.write.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.write.weight.dtype

    def start(self, batch: int) -> StackState:
        D, zeros = self.dim + 1, self.write.weight.new_zeros
        return StackState(0, (State(zeros(batch, D, self.config.mixer.d_state)),))

    def embed(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y[..., None]], dim=-1).to(self.dtype)

    def answer_of(self, outputs: Tensor) -> Tensor:
        return outputs[..., -1]

    def encode(
        self,
        tokens: Tensor,
        state: StackState | None = None,
        target_length: Tensor | None = None,
        hook: Hook | None = None,
        want_state: bool = True,
    ) -> tuple[Tensor, StackState | None]:
        """As of a stack; outputs are (B, L, d + 1)."""
        t0, before = (0, None) if state is None else (state.t, state.layers[0])
        N, D = self.config.mixer.d_state, self.dim + 1
        call = MambaCall(
            layer=0,
            t0=t0,
            target_length=target_length,
            x=tokens,
            z=torch.zeros_like(tokens),
            dt=torch.full_like(tokens, self.step_size),
            A=-tokens.new_ones(D, N),
            Bmat=self.write(tokens),
            Cmat=self.read(tokens),
            h0=None if before is None else before.memory,
            remembered=None if before is None else before.remembered,
        )

        def ordinary(call: MambaCall) -> tuple[Tensor, Tensor, tuple[()]]:
            options = {"h0": call.h0, "return_last_state": True, "backend": self.config.scan_backend}
            return *selective_scan(call.x, call.dt, call.A, call.Bmat, call.Cmat, tokens.new_zeros(D), **options), ()

        call = call if hook is None else hook(call)
        if call.keep is not None:
            raise ValueError("a bare S6 layer goes on with every step; expected a hook that drops none")
        y, h, _, remembered = run(call, ordinary)
        after = State(h, (), remembered)
        return y, StackState(t0 + tokens.shape[1], (after,)) if want_state else None

"""An encoder–decoder transformer (Vaswani et al. 2017, arXiv:1706.03762, section 3) with the layers of arXiv:2603.12499's code.

    encoder   e <- e + g attend(n(e), n(e)),  e <- e + g MLP(n(e))                                   over all steps read
    decoder   q <- q + g attend(n(q), n(q)),  q <- q + g attend(n(q), e),  q <- q + g MLP(n(q))      over the queries asked together

n is a LayerNorm and g a learned layer scale (Touvron et al. 2021, arXiv:2103.17239, equation 3), each of its own. Nothing is causal: a step
looks at later ones, so that what the encoder makes of a sequence is made anew whenever it is asked. To read is therefore only to keep the
steps, which is all that goes on from piece to piece; steps have no output, and queries have. What is kept grows with every step.

Steps have no numbers, so that the whole is a function of the set of steps. Glossary: `lgmamba.mixers`; H heads, Q queries.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.config.run import ModelConfig
from lgmamba.mixers.contract import State
from lgmamba.mixers.encoder_decoder.config import EncoderDecoderConfig
from lgmamba.mixers.keeping import Keeping


class EncoderDecoderMixer(Keeping):
    """Keeps steps; answers queries.

    Args:
        config: sizes, see `ModelConfig`; one layer, which is this.
        layer: 0.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        mixer, d = config.mixer, config.d_model
        self.encoder = nn.ModuleList(Layer(mixer, d, cross=False) for _ in range(mixer.encoder))
        self.decoder = nn.ModuleList(Layer(mixer, d, cross=True) for _ in range(mixer.decoder))

    def answer(self, u: Tensor, state: State, last: Tensor | None = None, alone: bool = False) -> Tensor:
        seen = self.seen(state, last)[:, None, None]  # (B, 1, 1, steps): all look at the same steps
        e = state.carry[0].to(u.dtype)
        for layer in self.encoder:
            e = layer(e, seen)
        among = torch.eye(u.shape[1], dtype=torch.bool, device=u.device) if alone else None
        for layer in self.decoder:
            u = layer(u, among, e, seen)
        return u


class Layer(nn.Module):
    """One layer of the encoder, or with `cross` of the decoder.

    Args:
        config: heads, width of the MLP, layer scale, share of branches left out.
        d: width.
        cross: whether it looks at what the encoder made of the steps.
    """

    def __init__(self, config: EncoderDecoderConfig, d: int, cross: bool):
        super().__init__()
        self.drop_path = config.drop_path
        names = ("own", "cross", "mlp") if cross else ("own", "mlp")
        self.norms = nn.ModuleDict({name: nn.LayerNorm(d, eps=1e-6) for name in names})
        self.scales = nn.ParameterDict({name: torch.full((d,), config.layer_scale) for name in names})
        self.attention = nn.ModuleDict({name: Attention(d, config.heads) for name in names if name != "mlp"})
        self.mlp = nn.Sequential(nn.Linear(d, config.mlp), nn.GELU(), nn.Linear(config.mlp, d))

    def forward(self, x: Tensor, own: Tensor | None, e: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        """(B, L, d) -> (B, L, d).

        Args:
            own: which of x each of x sees, bool, broadcast to (B, H, L, L); None: all.
            e: (B, steps, d) what else is looked at, with `cross`.
            seen: which of that, bool, broadcast to (B, H, L, steps).
        """
        u = self.norms["own"](x)
        x = x + self._branch("own", self.attention["own"](u, u, own))
        if e is not None:
            x = x + self._branch("cross", self.attention["cross"](self.norms["cross"](x), e, seen))
        return x + self._branch("mlp", self.mlp(self.norms["mlp"](x)))

    def _branch(self, name: str, y: Tensor) -> Tensor:
        y = self.scales[name] * y
        if not self.training or not self.drop_path:
            return y
        return y * F.dropout(y.new_ones(len(y), 1, 1), self.drop_path)


class Attention(nn.Module):
    """Softmax attention of x on e, equation 1 of arXiv:1706.03762, with biases."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)

    def forward(self, x: Tensor, e: Tensor, seen: Tensor | None) -> Tensor:
        q, k, v = (self._split(part) for part in (self.q(x), *self.kv(e).chunk(2, dim=-1)))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.out(y.transpose(1, 2).flatten(2))

    def _split(self, v: Tensor) -> Tensor:
        return v.unflatten(-1, (self.heads, -1)).transpose(1, 2)

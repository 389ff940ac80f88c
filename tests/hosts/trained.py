"""A model trained for seconds, which recalls: after a random sequence of letters of some period it says what came a period ago."""

import functools

import torch
import torch.nn.functional as F

from lgmamba import compat
from tests.hosts.models import VOCABULARY, make

L0 = 16


def text(rows: int, T: int, seed: int = 0) -> torch.Tensor:
    """(rows, T) ids: stretches that repeat four of eight letters for a while."""
    g = torch.Generator().manual_seed(seed)
    motif = torch.randint(3, 11, (rows, -(-T // 8), 4), generator=g)
    return motif.repeat(1, 1, 2).reshape(rows, -1)[:, :T]


@functools.cache
def weights() -> dict[str, torch.Tensor]:
    """After 80 steps on sequences of L0 tokens."""
    model = make("Mamba", hidden_size=24)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with compat.patch():
        for step in range(80):
            ids = text(16, L0 + 1, seed=1000 + step)
            logits = model(ids[:, :-1]).logits
            loss = F.cross_entropy(logits.reshape(-1, VOCABULARY), ids[:, 1:].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {name: v.clone() for name, v in model.state_dict().items()}


def trained(scale: float = 1.0):
    """The trained model, with step sizes before softplus raised by ln(scale): about `scale` times as large."""
    model = make("Mamba", hidden_size=24)
    model.load_state_dict(weights())
    with torch.no_grad():
        for block in model.backbone.layers:
            block.mixer.dt_proj.bias += torch.tensor(scale).log()
    return model

"""LAMB is the published update, by run in a stack, and Adam where nothing is adapted."""

import pytest
import torch

from lgmamba.train.lamb import Lamb
from tests.train.tiny import FakeTracker, Stopped, tiny_run, train_at
from tests.train.tiny import weights as trained_weights

BETAS, EPS = (0.9, 0.99), 1e-6
SHAPES = [(3, 4), (5,), ()]


def weights(seed: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_() for shape in SHAPES]


def gradients(steps: int, seed: int = 1) -> list[list[torch.Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [[torch.randn(shape, generator=g, dtype=torch.float64) for shape in SHAPES] for _ in range(steps)]


def run(make, params, all_gradients):
    optimizer = make(params)
    for step in all_gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
        optimizer.step()
    return [p.detach() for p in params]


def published(params, all_gradients, lr, decay):
    """Algorithm 2 of You et al. 2020, line by line, phi the identity."""
    found = []
    for i, p in enumerate(params):
        x = p.detach().clone()
        m = v = torch.zeros_like(x)
        for t, step in enumerate(all_gradients, start=1):
            g = step[i]
            m = BETAS[0] * m + (1 - BETAS[0]) * g
            v = BETAS[1] * v + (1 - BETAS[1]) * g * g
            r = (m / (1 - BETAS[0] ** t)) / ((v / (1 - BETAS[1] ** t)).sqrt() + EPS)
            u = r + decay * x
            x = x - lr * x.norm() / u.norm() * u
        found.append(x)
    return found


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_update_is_the_published_one(decay):
    steps = gradients(7)
    found = run(lambda p: Lamb(p, 0.03, BETAS, EPS, decay), weights(), steps)
    for x, expected in zip(found, published(weights(), steps, 0.03, decay), strict=True):
        torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-9)  # powers of the decay rates are single numbers


def test_without_decay_and_adapting_only_what_decays_it_is_adam():
    steps = gradients(7)
    found = run(lambda p: Lamb(p, 0.03, BETAS, EPS, adapt="decayed"), weights(), steps)
    adam = run(lambda p: torch.optim.Adam(p, 0.03, BETAS, EPS), weights(), steps)
    for x, expected in zip(found, adam, strict=True):
        torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-9)


def test_runs_side_by_side_are_updated_as_each_alone():
    steps = [gradients(5, seed) for seed in (1, 2)]
    alone = [run(lambda p: Lamb(p, 0.03, BETAS, EPS, 0.1), weights(k), steps[k]) for k in (0, 1)]
    stacked = [torch.stack(pair).detach().requires_grad_() for pair in zip(weights(0), weights(1), strict=True)]
    both = [[torch.stack(pair) for pair in zip(a, b, strict=True)] for a, b in zip(*steps, strict=True)]
    found = run(lambda p: Lamb(p, 0.03, BETAS, EPS, 0.1, stacked=1), stacked, both)
    for x, first, second in zip(found, *alone, strict=True):
        torch.testing.assert_close(x, torch.stack([first, second]), rtol=1e-12, atol=1e-12)


def test_weights_of_zero_move_as_adam_moves_them():
    p = torch.zeros(3, requires_grad=True)
    p.grad = torch.ones(3)
    Lamb([p], 0.1).step()
    torch.testing.assert_close(p.detach(), torch.full((3,), -0.1), rtol=1e-5, atol=0)


def test_an_interrupted_training_ends_the_same(digits, tmp_path):
    run = tiny_run(train={"optimizer": {"kind": "lamb"}})
    train_at(tmp_path / "whole", run, digits)
    with pytest.raises(Stopped):
        train_at(tmp_path / "stopped", run, digits, FakeTracker(stop_at=12))
    train_at(tmp_path / "stopped", run, digits)
    assert trained_weights(tmp_path / "stopped") == trained_weights(tmp_path / "whole")
